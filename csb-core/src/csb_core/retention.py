"""What is kept no longer: ended requests after their tenant's retention, the audit by partitions.

All of it goes by narrow functions of the database, which refuse what is still to be kept and leave
a trace of what went.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg.rows import class_row

from csb_core.db import Connection

#: Requests of one tenant that are counted at most: there may be more.
MOST_COUNTED: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Ended requests of one tenant that need not be kept any longer."""

    tenant: str
    retention_days: int
    ended_before: datetime
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What one batch deleted of one tenant."""

    tenant_id: UUID
    deleted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition of the audit; `is_due` when nobody need keep any row of it."""

    name: str
    from_at: datetime
    until_at: datetime
    is_due: bool


def change(conn: Connection, tenant_id: UUID, days: int | None) -> None:
    """Set for how many days a tenant's ended requests are kept; None for the platform's default."""
    conn.execute(
        """
        UPDATE csb_app.csb_tenants
           SET retention_days = %(days)s
         WHERE tenant_id = %(tenant_id)s
           AND retention_days IS DISTINCT FROM %(days)s
        """,
        {"tenant_id": tenant_id, "days": days},
    )


def due(conn: Connection) -> list[Due]:
    """Return how many requests may go, per tenant that has any, by their codes."""
    with conn.cursor(row_factory=class_row(Due)) as cur:
        cur.execute(
            """
            SELECT t.code AS tenant, s.days AS retention_days, s.since AS ended_before,
                   found.requests
              FROM csb_app.csb_tenants t
             CROSS JOIN LATERAL (
                    SELECT COALESCE(t.retention_days, csb_app.default_retention_days()) AS days,
                           csb_app.kept_since(t.tenant_id) AS since) s
             CROSS JOIN LATERAL (
                    SELECT count(*) AS requests
                      FROM (SELECT
                              FROM csb_app.csb_requests r
                             WHERE r.tenant_id = t.tenant_id
                               AND r.correlation_id < csb_app.first_id_of(s.since)
                               AND r.finished_at < s.since
                             LIMIT %s) AS old) found
             WHERE found.requests > 0
             ORDER BY t.code
            """,
            (MOST_COUNTED,),
        )
        return cur.fetchall()


def delete_batch(conn: Connection, *, most: int) -> list[Deleted]:
    """Delete at most so many requests that need not be kept, with their references."""
    with conn.cursor(row_factory=class_row(Deleted)) as cur:
        cur.execute("SELECT tenant_id, deleted FROM csb_app.delete_ended_requests(%s)", (most,))
        return cur.fetchall()


def partitions(conn: Connection) -> list[Partition]:
    """Return the partitions of the audit, the oldest first."""
    with conn.cursor(row_factory=class_row(Partition)) as cur:
        cur.execute("SELECT name, from_at, until_at, is_due FROM csb_app.audit_partitions()")
        return cur.fetchall()


def drop_partition(conn: Connection) -> str | None:
    """Drop the oldest partition of the audit that is due; returns its name, None without one."""
    row = conn.execute("SELECT csb_app.drop_audit_partition()").fetchone()
    return row[0] if row else None


def make_partitions(conn: Connection, *, months_ahead: int) -> int:
    """Make the audit's partitions for this month and those ahead; returns how many were missing."""
    row = conn.execute("SELECT csb_app.ensure_audit_partitions(%s)", (months_ahead,)).fetchone()
    return int(row[0]) if row else 0
