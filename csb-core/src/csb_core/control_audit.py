"""The trail of the control plane: what operators did, and on whose behalf a change is made.

Changes of tenants, keys and accounts get their rows here by triggers that nobody can skip.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from csb_core.db import Connection
from csb_core.models import Json


@contextmanager
def acting(conn: Connection, actor: str) -> Iterator[Connection]:
    """Open a transaction in which every change is put down to `actor`."""
    with conn.transaction():
        conn.execute("SELECT set_config('csb.actor', %s, true)", (actor,))
        yield conn


def note(
    conn: Connection, event: str, *, subject: str, tenant_id: UUID | None, detail: Json
) -> None:
    """Leave a trace of something done that changes no row of the control plane."""
    conn.execute(
        "SELECT csb_app.note_operation(%(event)s, %(tenant_id)s, %(subject)s, %(detail)s)",
        {"event": event, "tenant_id": tenant_id, "subject": subject, "detail": Jsonb(detail)},
    )


def note_sight(conn: Connection, subject: str, *, tenant_id: UUID) -> None:
    """Leave a trace of what an operator was shown of a tenant's."""
    note(conn, "shown", subject=subject, tenant_id=tenant_id, detail={})


def last_note(
    conn: Connection, event: str, *, subject: str, tenant_id: UUID, detail: Json
) -> Json | None:
    """Return the newest detail that `note` left of such an event and that says all of `detail`."""
    row = conn.execute(
        """
        SELECT detail
          FROM csb_app.csb_control_audit
         WHERE event = 'operator.' || %(event)s
           AND tenant_id = %(tenant_id)s
           AND subject = %(subject)s
           AND detail @> %(detail)s
         ORDER BY audit_id DESC
         LIMIT 1
        """,
        {"event": event, "tenant_id": tenant_id, "subject": subject, "detail": Jsonb(detail)},
    ).fetchone()
    return row[0] if row else None


def latest(conn: Connection, *, tenant_id: UUID | None, limit: int) -> list[Json]:
    """Return the last entries, the newest first; of one tenant when it is given."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT audit_id, at, actor, db_role, tenant_id, event, subject, detail
              FROM csb_app.csb_control_audit
             WHERE %(tenant_id)s::uuid IS NULL
                OR tenant_id = %(tenant_id)s
             ORDER BY audit_id DESC
             LIMIT %(limit)s
            """,
            {"tenant_id": tenant_id, "limit": limit},
        )
        return cur.fetchall()
