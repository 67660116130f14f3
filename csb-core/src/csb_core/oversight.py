"""The store as operators see it: requests of every tenant, what waits, what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from csb_core.db import Connection
from csb_core.errors import NotFound
from csb_core.models import Json, PinnedUtil
from csb_core.pins import pin_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How much of one provider's work is open, and for how long the oldest has been due."""

    provider: str
    due: int
    delayed: int
    in_progress: int
    oldest_due_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """Which failed requests are meant; None leaves a field open."""

    tenant_id: UUID
    provider: str | None = None
    action: str | None = None
    account_id: str | None = None
    error_class: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed request that has not been replayed, with what is needed to ask for it again."""

    correlation_id: UUID
    tenant_id: UUID
    cloud_provider: str
    action: str
    account_id: str | None
    payload: Json
    error: Json
    finished_at: datetime
    util: PinnedUtil | None


def find_request(conn: Connection, correlation_id: UUID) -> Mapping[str, Any]:
    """Return a request of any tenant with its tenant's code; raises NotFound."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT r.correlation_id, t.code AS tenant, r.status, r.version, r.cloud_provider,
                   r.action, r.account_id, r.principal_type, r.principal_name, r.payload,
                   r.client_request_id, r.requested_by, r.request_id, r.traceparent, r.replay_of,
                   r.attempt, r.retries, r.max_attempts, r.losses, r.lone_losses, r.lease_token,
                   r.lease_owner, r.lease_expires_at, r.available_at, r.checkpoint, r.result,
                   r.changed, r.error, r.created_at, r.updated_at, r.started_at, r.finished_at,
                   r.tenant_id, r.util_id, r.util_version, r.util_digest, r.util_limits
              FROM csb_app.csb_requests r
              JOIN csb_app.csb_tenants t ON t.tenant_id = r.tenant_id
             WHERE r.correlation_id = %s
            """,
            (correlation_id,),
        )
        row = cur.fetchone()
    if row is None:
        raise NotFound(f"no request has the id {correlation_id}")
    return row


def trail_of(conn: Connection, correlation_id: UUID) -> list[Json]:
    """Return the audit of a request of any tenant, oldest first."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT at, event, from_status, to_status, version, attempt, lease_token, actor,
                   db_role, changed, detail
              FROM csb_app.csb_requests_audit
             WHERE correlation_id = %s
             ORDER BY audit_id
            """,
            (correlation_id,),
        )
        return cur.fetchall()


def find_failure(conn: Connection, correlation_id: UUID) -> Failure:
    """Return a failed request that was not replayed yet; raises NotFound."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT r.correlation_id, r.tenant_id, r.cloud_provider, r.action, r.account_id,
                   r.payload, r.error, r.finished_at, r.util_id, r.util_version, r.util_digest,
                   r.util_limits
              FROM csb_app.csb_requests r
             WHERE r.correlation_id = %s
               AND r.status = 'FAILED'
               AND NOT EXISTS (SELECT
                                 FROM csb_app.csb_requests later
                                WHERE later.replay_of = r.correlation_id
                                  AND later.tenant_id = r.tenant_id
                                  AND later.status <> 'CANCELLED')
            """,
            (correlation_id,),
        )
        row = cur.fetchone()
    if row is None:
        raise NotFound(
            f"{correlation_id} cannot be replayed: it is unknown, has not FAILED, or was replayed "
            "before; `csbctl request show` tells which"
        )
    return _failure(row)


def find_failures(conn: Connection, narrowing: Narrowing, *, limit: int) -> list[Failure]:
    """Return failed requests of one tenant that were not replayed yet, the oldest first."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT r.correlation_id, r.tenant_id, r.cloud_provider, r.action, r.account_id,
                   r.payload, r.error, r.finished_at, r.util_id, r.util_version, r.util_digest,
                   r.util_limits
              FROM csb_app.csb_requests r
             WHERE r.tenant_id = %(tenant_id)s
               AND r.status = 'FAILED'
               AND r.finished_at IS NOT NULL
               AND (r.error IS NOT NULL OR r.changed IS NULL)
               AND (%(provider)s::text IS NULL OR r.cloud_provider = %(provider)s)
               AND (%(action)s::text IS NULL OR r.action = %(action)s)
               AND (%(account_id)s::text IS NULL OR r.account_id = %(account_id)s)
               AND (%(error_class)s::text IS NULL OR r.error ->> 'class' = %(error_class)s)
               AND (%(since)s::timestamptz IS NULL OR r.finished_at >= %(since)s)
               AND (%(until)s::timestamptz IS NULL OR r.finished_at < %(until)s)
               AND NOT EXISTS (SELECT
                                 FROM csb_app.csb_requests later
                                WHERE later.replay_of = r.correlation_id
                                  AND later.tenant_id = r.tenant_id
                                  AND later.status <> 'CANCELLED')
             ORDER BY r.correlation_id
             LIMIT %(limit)s
            """,
            {
                "tenant_id": narrowing.tenant_id,
                "provider": narrowing.provider,
                "action": narrowing.action,
                "account_id": narrowing.account_id,
                "error_class": narrowing.error_class,
                "since": narrowing.since,
                "until": narrowing.until,
                "limit": limit,
            },
        )
        return [_failure(row) for row in cur.fetchall()]


def _failure(row: Mapping[str, Any]) -> Failure:
    own = {name: row[name] for name in Failure.__slots__ if name != "util"}
    return Failure(**own, util=pin_of(row))


def open_work(conn: Connection) -> list[Work]:
    """Return what is open per provider; its cost grows with open work only, not with history."""
    with conn.cursor(row_factory=class_row(Work)) as cur:
        cur.execute(
            """
            SELECT cloud_provider AS provider,
                   count(*) FILTER (WHERE status = 'PENDING' AND available_at <= now()) AS due,
                   count(*) FILTER (WHERE status = 'PENDING' AND available_at > now()) AS delayed,
                   count(*) FILTER (WHERE status = 'IN_PROGRESS') AS in_progress,
                   extract(epoch FROM now() - min(available_at) FILTER (
                       WHERE status = 'PENDING' AND available_at <= now()))::float8
                       AS oldest_due_seconds
              FROM csb_app.csb_requests
             WHERE finished_at IS NULL
             GROUP BY cloud_provider
             ORDER BY cloud_provider
            """
        )
        return cur.fetchall()


def security_events(conn: Connection, *, event: str | None, limit: int) -> list[Json]:
    """Return the last refused messages, the newest first."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT event_id, at, event, correlation_id, tenant_id, actor, db_role, detail
              FROM csb_app.csb_security_events
             WHERE %(event)s::text IS NULL
                OR event = %(event)s
             ORDER BY event_id DESC
             LIMIT %(limit)s
            """,
            {"event": event, "limit": limit},
        )
        return cur.fetchall()
