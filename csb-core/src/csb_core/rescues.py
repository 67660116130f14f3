"""The store of what went wrong: requests that are stuck, and messages that were refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import orjson
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from csb_core.db import Connection
from csb_core.models import Json
from csb_core.states import Status

#: So many workers lost while they held nothing else, and the request itself is to blame.
LONE_LOSSES_BEFORE_FAILED: Final = 2

#: Leases that one pass returns.
MOST_EXPIRED: Final = 1_000

SecurityEvent = Literal["message_unreadable", "message_unknown", "message_forged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """A request that the rescuer touched: `moved` when its lease had run out, else rung again."""

    correlation_id: UUID
    tenant_id: UUID
    status: Status
    version: int
    moved: bool
    attempt: int
    digest: str
    payload: Json
    traceparent: str | None
    rung_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What still stands for one tenant: since when, and how many more rings are worth their while.

    `oldest` is when the oldest message of this tenant was published, None when nothing is known.
    """

    tenant_id: UUID
    oldest: datetime | None
    room: int


def rescue(
    conn: Connection,
    provider: str,
    *,
    worker: str,
    oldest: datetime | None,
    margin: timedelta,
    room: int,
    bounds: Sequence[Bound] = (),
) -> list[Rescued]:
    """Give back expired leases, fail what kills its workers, and mark what is due to be rung.

    One statement: the advisory lock lives as long as it does, so a stopped process holds nobody
    up. A PENDING row is rung when its last ring is older than the oldest message of its tenant
    that still stands, by a margin: what may yet be read is not doubled. That is the older one of
    the tenant's bound and `oldest`, the oldest unsorted message (None: there is none). At most
    `room` rows are rung, of one tenant no more than its bound's room, one a tenant in turn.

    Messages are first in, first out within a tenant. So a claimed row was rung before the oldest
    that its tenant has standing, and a long backlog is never looked at here, whatever its length:
    the statement goes from tenant to tenant, and at each only to what stands before its bound.
    """
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            WITH RECURSIVE gate AS MATERIALIZED (
                SELECT pg_try_advisory_xact_lock(
                           hashtextextended('csb.rescue.' || %(provider)s, 0)) AS ours),
            open (tenant_id) AS (
               (SELECT tenant_id
                  FROM csb_app.csb_requests
                 WHERE finished_at IS NULL
                   AND cloud_provider = %(provider)s
                   AND (SELECT ours FROM gate)
                 ORDER BY tenant_id
                 LIMIT 1)
                 UNION ALL
                SELECT later.tenant_id
                  FROM open,
                       LATERAL (SELECT tenant_id
                                  FROM csb_app.csb_requests
                                 WHERE finished_at IS NULL
                                   AND cloud_provider = %(provider)s
                                   AND tenant_id > open.tenant_id
                                 ORDER BY tenant_id
                                 LIMIT 1) AS later),
            bounds AS MATERIALIZED (
                SELECT o.tenant_id,
                       LEAST(b.oldest, %(oldest)s::timestamptz, now()) AS oldest,
                       LEAST(COALESCE(b.room, %(room)s), %(room)s,
                             GREATEST(20, 20 * %(room)s / count(*) OVER ())) AS room
                  FROM open o
                  LEFT JOIN json_to_recordset(%(bounds)s::json) AS b (
                       tenant uuid, oldest timestamptz, room bigint)
                    ON b.tenant = o.tenant_id),
            expired AS MATERIALIZED (
                SELECT found.correlation_id, true AS lost, found.spent
                  FROM bounds,
                       LATERAL (SELECT correlation_id,
                                       alone AND lone_losses + 1 >= %(lone_losses)s AS spent
                                  FROM csb_app.csb_requests
                                 WHERE finished_at IS NULL
                                   AND cloud_provider = %(provider)s
                                   AND tenant_id = bounds.tenant_id
                                   AND rung_at > '-infinity'
                                   AND rung_at <= bounds.oldest
                                   AND status = 'IN_PROGRESS'
                                   AND lease_expires_at < now()
                                 ORDER BY rung_at
                                 LIMIT %(most_expired)s
                                   FOR UPDATE SKIP LOCKED) AS found
                 LIMIT %(most_expired)s),
            silent AS MATERIALIZED (
                SELECT waiting.correlation_id
                  FROM bounds,
                       LATERAL (SELECT correlation_id, rung_at,
                                       row_number() OVER (ORDER BY rung_at, available_at) AS turn
                                  FROM (SELECT correlation_id, rung_at, available_at
                                          FROM csb_app.csb_requests
                                         WHERE finished_at IS NULL
                                           AND cloud_provider = %(provider)s
                                           AND tenant_id = bounds.tenant_id
                                           AND status = 'PENDING'
                                           AND rung_at < bounds.oldest - %(margin)s
                                           AND available_at <= now()
                                         ORDER BY rung_at, available_at
                                         LIMIT bounds.room) AS found) AS waiting
                 ORDER BY waiting.turn, waiting.rung_at
                 LIMIT %(room)s),
            due AS MATERIALIZED (
                SELECT correlation_id, false AS lost, false AS spent
                  FROM csb_app.csb_requests
                 WHERE correlation_id = ANY (ARRAY(SELECT correlation_id FROM silent))
                   AND status = 'PENDING'
                   FOR UPDATE SKIP LOCKED),
            stuck AS MATERIALIZED (
                SELECT * FROM expired UNION ALL SELECT * FROM due)
            UPDATE csb_app.csb_requests r
               SET status           = CASE WHEN s.spent THEN 'FAILED' ELSE 'PENDING' END,
                   version          = r.version + s.lost::integer,
                   losses           = r.losses + s.lost::integer,
                   lone_losses      = r.lone_losses + (s.lost AND r.alone)::integer,
                   alone            = false,
                   lease_expires_at = NULL,
                   moved_by         = CASE WHEN s.lost THEN %(worker)s ELSE r.moved_by END,
                   error            = CASE WHEN s.spent THEN %(poison)s::jsonb
                                           WHEN s.lost THEN %(loss)s::jsonb ELSE r.error END,
                   rung_at          = now(),
                   updated_at       = CASE WHEN s.lost THEN now() ELSE r.updated_at END,
                   finished_at      = CASE WHEN s.spent THEN now() END
              FROM stuck s
             WHERE r.correlation_id = ANY (ARRAY(SELECT correlation_id FROM stuck))
               AND r.correlation_id = s.correlation_id
            RETURNING r.correlation_id, r.tenant_id, r.status, r.version, s.lost AS moved,
                      r.attempt, r.digest, r.payload, r.traceparent, r.rung_at
            """,
            {
                "provider": provider,
                "worker": worker,
                "oldest": oldest,
                "bounds": orjson.dumps(
                    [{"tenant": b.tenant_id, "oldest": b.oldest, "room": b.room} for b in bounds]
                ).decode(),
                "margin": margin,
                "room": room,
                "lone_losses": LONE_LOSSES_BEFORE_FAILED,
                "most_expired": MOST_EXPIRED,
                "loss": Jsonb(LOSS),
                "poison": Jsonb(POISON),
            },
        )
        return [_rescued(row) for row in cur.fetchall()]


LOSS: Final[Json] = {
    "class": "WORKER_LOST",
    "code": "lease_expired",
    "message": "the worker that held this request stopped answering; it is tried again",
    "retryable": True,
}
POISON: Final[Json] = {
    "class": "POISON",
    "code": "workers_lost",
    "message": "every worker that held this request was lost, also alone; it is not tried again",
    "retryable": False,
}


def _rescued(row: Mapping[str, Any]) -> Rescued:
    return Rescued(**{**row, "status": Status(row["status"])})


def report_stale_write(
    conn: Connection, correlation_id: UUID, *, token: int, worker: str, detail: Json
) -> None:
    """Leave in the request's audit that a worker came too late and wrote nothing."""
    conn.execute(
        "SELECT csb_app.report_stale_write(%s, %s, %s, %s)",
        (correlation_id, token, worker, Jsonb(detail)),
    )


def report_security_event(
    conn: Connection,
    event: SecurityEvent,
    correlation_id: UUID | None,
    *,
    worker: str,
    detail: Json,
) -> None:
    """Leave a record of a message that no honest API wrote."""
    conn.execute(
        "SELECT csb_app.report_security_event(%s, %s, %s, %s)",
        (event, correlation_id, worker, Jsonb(detail)),
    )
