"""The worker's side of the store: claim, extend, keep, record. One statement each.

Every write after the claim names the lease's token. Zero rows is an answer: the request is
somebody else's now. Rows are named in the order of their ids, so that two statements which name
the same ones wait for each other instead of locking each other out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import orjson
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from csb_core.claimed import lease_of
from csb_core.db import Connection
from csb_core.errors import LeaseLost
from csb_core.models import Json, Lease, Ref
from csb_core.states import Status

#: After so many lost workers a request is claimed alone.
LOSSES_BEFORE_ALONE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A message's claim to a request: its id, and the digest of the payload it carries."""

    correlation_id: UUID
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an attempt is to be recorded: what `settle` made of its outcome.

    `wait` is None for a final status; otherwise the time until the next attempt, zero for at once.
    """

    correlation_id: UUID
    token: int
    status: Literal[Status.SUCCESS, Status.FAILED, Status.PENDING]
    result: Json | None
    changed: bool | None
    error: Json | None
    wait: timedelta | None
    counts_as_retry: bool
    checkpoint: Json | None
    refs: tuple[Ref, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A recorded end: the row's new version, and when it was written by the database's clock."""

    correlation_id: UUID
    version: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a request stands that could not be claimed or recorded."""

    status: Status
    digest: str
    due: bool
    losses: int
    token: int
    moved_by: str
    version: int
    updated_at: datetime


def claim(
    conn: Connection,
    candidates: Sequence[Candidate],
    *,
    worker: str,
    ttl: timedelta,
    alone: bool = False,
) -> list[Lease]:
    """Take those of the candidates that wait, are due, and equal their messages.

    Whoever is missing from the answer was not there to take: see `standing`. A request that has
    lost several workers is taken only by a claim that is `alone`.
    """
    in_order = sorted(candidates, key=lambda c: c.correlation_id.int)
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            UPDATE csb_app.csb_requests r
               SET status           = 'IN_PROGRESS',
                   version          = r.version + 1,
                   attempt          = r.attempt + 1,
                   alone            = %(alone)s,
                   lease_token      = r.lease_token + 1,
                   lease_owner      = %(worker)s,
                   lease_expires_at = now() + %(ttl)s,
                   moved_by         = %(worker)s,
                   updated_at       = now(),
                   rung_at          = GREATEST(r.rung_at, r.created_at),
                   started_at       = COALESCE(r.started_at, now())
              FROM json_to_recordset(%(candidates)s::json) AS c (id uuid, digest text)
             WHERE r.correlation_id = ANY (%(ids)s::uuid[])
               AND r.correlation_id = c.id
               AND r.digest = c.digest
               AND r.status = 'PENDING'
               AND r.available_at <= now()
               AND (r.losses >= %(losses_before_alone)s) = %(alone)s
            RETURNING r.correlation_id, r.tenant_id, r.version, r.cloud_provider, r.action,
                      r.account_id, r.payload, r.attempt, r.retries, r.max_attempts, r.lease_token,
                      r.traceparent, r.requested_by, r.request_id, r.checkpoint, r.util_id,
                      r.util_version, r.util_digest, r.util_limits,
                      (SELECT json_build_object('role_arn', a.role_arn,
                                                'external_id', a.external_id,
                                                'registered_at', a.created_at)
                         FROM csb_app.csb_target_accounts a
                        WHERE a.tenant_id = r.tenant_id
                          AND a.cloud_provider = r.cloud_provider
                          AND a.account_id = r.account_id
                          AND a.status = 'active') AS target
            """,
            {
                "ids": array_literal(c.correlation_id for c in in_order),
                "candidates": orjson.dumps(
                    [{"id": c.correlation_id, "digest": c.digest} for c in in_order]
                ).decode(),
                "worker": worker,
                "ttl": ttl,
                "alone": alone,
                "losses_before_alone": LOSSES_BEFORE_ALONE,
            },
        )
        return [lease_of(row) for row in cur.fetchall()]


def extend(
    conn: Connection, held: Iterable[tuple[UUID, int]], *, ttl: timedelta
) -> set[tuple[UUID, int]]:
    """Renew these leases (id, token); those that are missing from the answer are lost."""
    pairs = sorted(held)
    rows = conn.execute(
        """
        UPDATE csb_app.csb_requests r
           SET lease_expires_at = now() + %(ttl)s
          FROM json_to_recordset(%(held)s::json) AS h (id uuid, token bigint)
         WHERE r.correlation_id = ANY (%(ids)s::uuid[])
           AND r.correlation_id = h.id
           AND r.lease_token = h.token
           AND r.status = 'IN_PROGRESS'
        RETURNING r.correlation_id, r.lease_token
        """,
        {
            "ids": array_literal(correlation_id for correlation_id, _ in pairs),
            "held": orjson.dumps([{"id": i, "token": t} for i, t in pairs]).decode(),
            "ttl": ttl,
        },
    ).fetchall()
    return set(rows)


def keep(
    conn: Connection, correlation_id: UUID, *, token: int, checkpoint: Json, ttl: timedelta
) -> None:
    """Keep a checkpoint with a request in hand, and renew its lease; raises LeaseLost."""
    kept = conn.execute(
        """
        UPDATE csb_app.csb_requests
           SET checkpoint       = %(checkpoint)s,
               lease_expires_at = now() + %(ttl)s
         WHERE correlation_id = %(id)s
           AND lease_token = %(token)s
           AND status = 'IN_PROGRESS'
        """,
        {"id": correlation_id, "token": token, "checkpoint": Jsonb(checkpoint), "ttl": ttl},
    ).rowcount
    if kept == 0:
        raise LeaseLost(f"request {correlation_id} is no longer held under token {token}")


def record(conn: Connection, ends: Sequence[End], *, worker: str) -> dict[UUID, Recorded]:
    """Write what attempts came to, with their references; the ids that are missing are lost.

    No two of the ends name the same request.
    """
    in_order = sorted(ends, key=lambda end: end.correlation_id.int)
    rows = conn.execute(
        """
        WITH ended AS (
            UPDATE csb_app.csb_requests r
               SET status           = e.status,
                   version          = r.version + 1,
                   retries          = r.retries + e.retries,
                   result           = e.result,
                   changed          = e.changed,
                   error            = e.error,
                   checkpoint       = COALESCE(e.checkpoint, r.checkpoint),
                   lease_expires_at = NULL,
                   moved_by         = %(worker)s,
                   updated_at       = now(),
                   available_at     = now() + make_interval(secs => COALESCE(e.wait, 0)),
                   rung_at          = CASE WHEN e.wait > 0 THEN '-infinity' ELSE now() END,
                   finished_at      = CASE WHEN e.wait IS NULL THEN now() END
              FROM json_to_recordset(%(ends)s::json) AS e (
                   id uuid, token bigint, status text, retries integer, result jsonb,
                   changed boolean, error jsonb, checkpoint jsonb, wait double precision)
             WHERE r.correlation_id = ANY (%(ids)s::uuid[])
               AND r.correlation_id = e.id
               AND r.lease_token = e.token
               AND r.status = 'IN_PROGRESS'
            RETURNING r.correlation_id, r.tenant_id, r.cloud_provider, r.attempt, r.version,
                      r.updated_at),
        named AS (
            INSERT INTO csb_app.csb_requests_ref
                   (correlation_id, tenant_id, cloud_provider, attempt, type, value, service,
                    operation)
            SELECT ended.correlation_id, ended.tenant_id, ended.cloud_provider, ended.attempt,
                   f.type, f.value, f.service, f.operation
              FROM ended
              JOIN json_to_recordset(%(refs)s::json) AS f (
                   id uuid, type text, value text, service text, operation text)
                ON f.id = ended.correlation_id)
        SELECT correlation_id, version, updated_at
          FROM ended
        """,
        {
            "ids": array_literal(end.correlation_id for end in in_order),
            "ends": orjson.dumps([_end(end) for end in in_order]).decode(),
            "refs": orjson.dumps([_ref(end, ref) for end in in_order for ref in end.refs]).decode(),
            "worker": worker,
        },
    ).fetchall()
    return {i: Recorded(correlation_id=i, version=version, at=at) for i, version, at in rows}


def _end(end: End) -> Json:
    return {
        "id": end.correlation_id,
        "token": end.token,
        "status": end.status,
        "retries": int(end.counts_as_retry),
        "result": end.result,
        "changed": end.changed,
        "error": end.error,
        "checkpoint": end.checkpoint,
        "wait": None if end.wait is None else end.wait.total_seconds(),
    }


def _ref(end: End, ref: Ref) -> Json:
    return {
        "id": end.correlation_id,
        "type": ref.type,
        "value": ref.value,
        "service": ref.service,
        "operation": ref.operation,
    }


def standing(conn: Connection, ids: Iterable[UUID]) -> dict[UUID, Standing]:
    """Where these requests stand; an id that is missing names no row of this provider."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT correlation_id, status, digest, available_at <= now() AS due, losses,
                   lease_token, moved_by, version, updated_at
              FROM csb_app.csb_requests
             WHERE correlation_id = ANY (%s::uuid[])
            """,
            (array_literal(ids),),
        )
        return {
            row["correlation_id"]: Standing(
                status=Status(row["status"]),
                digest=row["digest"],
                due=row["due"],
                losses=row["losses"],
                token=row["lease_token"],
                moved_by=row["moved_by"],
                version=row["version"],
                updated_at=row["updated_at"],
            )
            for row in cur.fetchall()
        }


def array_literal(ids: Iterable[UUID]) -> str:
    """PostgreSQL's text form of an array: far cheaper than psycopg's dumper for lists."""
    return "{" + ",".join(str(i) for i in ids) + "}"
