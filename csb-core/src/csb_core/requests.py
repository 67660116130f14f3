"""The store of requests, as their tenant and the API see them. It rings no bell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from psycopg.rows import dict_row

from csb_core.db import Connection
from csb_core.errors import Conflict, StoreRejected
from csb_core.models import Draft, Json, Request
from csb_core.pins import pin_of, pinning
from csb_core.states import Status

Acceptance = Literal[
    "created", "exists", "conflict", "replayed", "account_not_registered", "util_not_found",
    "util_not_active",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of one draft.

    `created`: it is a row now. `exists`: the same key brought the same body before, and
    `correlation_id` is the first one's. `conflict`: the same key with another body. `replayed`:
    there is a replay of this already, `correlation_id`, and it was not cancelled.
    `account_not_registered`, `util_not_found` (this caller may not run it) and `util_not_active`
    (nobody may now): nothing was written; the fields from `correlation_id` on are None.
    """

    outcome: Acceptance
    correlation_id: UUID | None
    status: Status | None
    version: int | None
    created_at: datetime | None
    rung_at: datetime | None


def insert(conn: Connection, drafts: Sequence[Draft]) -> list[Accepted]:
    """Accept drafts of any tenants in one round trip and one commit; answers in their order.

    `conn` is in autocommit. An item that is not created harms no other. Raises StoreRejected when
    a draft's own id is a row already.
    """
    rows = conn.execute(
        """
        SELECT asked, outcome, correlation_id, status, version, created_at, rung_at
          FROM csb_app.submit(%s::json)
        """,
        (orjson.dumps([_item(draft) for draft in drafts]).decode(),),
    ).fetchall()
    answers = {
        asked: Accepted(
            outcome=outcome,
            correlation_id=correlation_id,
            status=Status(status) if status else None,
            version=version,
            created_at=created_at,
            rung_at=rung_at,
        )
        for asked, outcome, correlation_id, status, version, created_at, rung_at in rows
    }
    unanswered = [draft for draft in drafts if draft.correlation_id not in answers]
    if unanswered:
        # Its own row was there before: the acknowledgement of an earlier call had been lost.
        raise StoreRejected(f"{len(unanswered)} of the drafts are rows already: look them up")
    return [answers[draft.correlation_id] for draft in drafts]


def _item(draft: Draft) -> Json:
    payload = draft.payload
    principal = payload.get("principal") or {}
    return {
        "correlation_id": draft.correlation_id,
        "tenant_id": draft.tenant_id,
        "cloud_provider": payload["cloud_provider"],
        "action": payload["action"],
        "account_id": payload.get("account_id"),
        "principal_type": principal.get("type"),
        "principal_name": principal.get("name"),
        "payload": payload,
        "digest": draft.digest,
        "client_request_id": draft.client_request_id,
        "requested_by": draft.requested_by,
        "request_id": draft.request_id,
        "traceparent": draft.traceparent,
        "replay_of": draft.replay_of,
        **(
            pinning(draft.util, advisory=draft.advisory) if draft.util else {}
        ),  # the others' rows are read faster without
    }


def get(conn: Connection, tenant_id: UUID, correlation_id: UUID) -> Request | None:
    """One request of this tenant, or None; one round trip on an autocommit connection."""
    with conn.cursor(row_factory=dict_row) as cur:
        # Not every column: rung_at may be -infinity, which is no datetime.
        cur.execute(
            """
            SELECT correlation_id, tenant_id, status, version, cloud_provider, action, account_id,
                   payload, client_request_id, attempt, max_attempts, result, changed, error,
                   requested_by, replay_of, available_at, created_at, updated_at, started_at,
                   finished_at, util_id, util_version, util_digest, util_limits
              FROM csb_app.get_request(%s, %s)
            """,
            (tenant_id, correlation_id),
        )
        row = cur.fetchone()
    return request_of(row) if row else None


def request_of(row: Mapping[str, Any]) -> Request:
    """A row of csb_requests as a value."""
    payload: Json = row["payload"]
    return Request(
        correlation_id=row["correlation_id"],
        tenant_id=row["tenant_id"],
        status=Status(row["status"]),
        version=row["version"],
        cloud_provider=row["cloud_provider"],
        action=row["action"],
        account_id=row["account_id"],
        principal=payload.get("principal"),
        parameters=payload.get("parameters", {}),
        dry_run=payload.get("dry_run", False),
        client_request_id=row["client_request_id"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        result=row["result"],
        changed=row["changed"],
        error=row["error"],
        requested_by=row["requested_by"],
        replay_of=row["replay_of"],
        available_at=row["available_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        util=pin_of(row),
    )


def audit(conn: Connection, correlation_id: UUID) -> list[Json]:
    """The trail of one request of the transaction's tenant, oldest first; empty if unknown."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT at, event, from_status, to_status, version, attempt, actor, db_role, changed,
                   detail
              FROM csb_app.csb_requests_audit
             WHERE correlation_id = %s
               AND tenant_id = (SELECT csb_app.current_tenant())
             ORDER BY audit_id
            """,
            (correlation_id,),
        )
        return cur.fetchall()


def refs(conn: Connection, correlation_id: UUID) -> list[Json] | None:
    """What others called our calls, oldest first; None if this tenant has no such request."""
    known = conn.execute(
        """
        SELECT 1
          FROM csb_app.csb_requests
         WHERE correlation_id = %s
           AND tenant_id = (SELECT csb_app.current_tenant())
        """,
        (correlation_id,),
    ).fetchone()
    if known is None:
        return None
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT at, attempt, type, value, service, operation
              FROM csb_app.csb_requests_ref
             WHERE correlation_id = %s
               AND tenant_id = (SELECT csb_app.current_tenant())
             ORDER BY ref_id
            """,
            (correlation_id,),
        )
        return cur.fetchall()


def cancel(conn: Connection, correlation_id: UUID, *, actor: str) -> Request | None:
    """Cancel a request of the transaction's tenant that nobody has claimed yet.

    None when the tenant has no such request; raises Conflict when it is not PENDING any more.
    """
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            UPDATE csb_app.csb_requests
               SET status      = 'CANCELLED',
                   version     = version + 1,
                   moved_by    = %(actor)s,
                   updated_at  = now(),
                   finished_at = now()
             WHERE correlation_id = %(id)s
               AND tenant_id = (SELECT csb_app.current_tenant())
               AND status = 'PENDING'
            RETURNING correlation_id, tenant_id, status, version, cloud_provider, action,
                      account_id, payload, client_request_id, attempt, max_attempts, result,
                      changed, error, requested_by, replay_of, available_at, created_at,
                      updated_at, started_at, finished_at, util_id, util_version, util_digest,
                      util_limits
            """,
            {"id": correlation_id, "actor": actor},
        )
        row = cur.fetchone()
        if row is not None:
            return request_of(row)
        cur.execute(
            """
            SELECT status
              FROM csb_app.csb_requests
             WHERE correlation_id = %s
               AND tenant_id = (SELECT csb_app.current_tenant())
            """,
            (correlation_id,),
        )
        row = cur.fetchone()
    if row is None:
        return None
    raise Conflict(f"only a PENDING request can be cancelled; this one is {row['status']}")
