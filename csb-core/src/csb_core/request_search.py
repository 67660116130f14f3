"""Searches of requests: a page at a time, and no page reads a long history through."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg.rows import dict_row

from csb_core.db import Connection
from csb_core.models import Request
from csb_core.request_page import MOST_BYTES, Page
from csb_core.requests import request_of
from csb_core.states import FINAL, Status

#: How many requests a page looks at, at most; the first number is nearly always enough.
MOST_LOOKED_AT: Final = (1_000, 20_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a search narrows by; None leaves a field open. Times bound `created_at`."""

    status: Status | None = None
    cloud_provider: str | None = None
    action: str | None = None
    account_id: str | None = None
    principal_type: str | None = None
    principal_name: str | None = None
    client_request_id: str | None = None
    util_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


def search(conn: Connection, filters: Filters, *, before: UUID | None, limit: int) -> Page:
    """Requests of the transaction's tenant, newest first, older than `before` where given.

    `conn` is a tenant's transaction. Ids grow with time, so the edge of a page is an id. A page
    may be short, or empty, and not the last: then what it looked at, or holds, was enough for one
    call.
    """
    asked = {
        **{field.name: getattr(filters, field.name) for field in fields(filters)},
        **_places(filters),
        "before": before,
        "limit": limit + 1,
    }
    asked["is_small"] = _is_small(conn, asked)
    is_bounded = _is_narrow(filters) and not asked["is_small"]
    found: list[Request] = []
    number, until = 0, None
    for most in MOST_LOOKED_AT:
        until = _until(conn, asked, most) if is_bounded else None
        found, number = _found(conn, {**asked, "until": until})
        if number > limit or until is None:
            break
    found = found[:limit]
    if number > len(found):
        return Page(requests=found, go_on_before=found[-1].correlation_id)
    return Page(requests=found, go_on_before=until)


def _is_narrow(filters: Filters) -> bool:
    """Whether many rows may have to be passed over for one that is found."""
    return filters != Filters() and filters.client_request_id is None


def _places(filters: Filters) -> dict[str, bool]:
    """Which of the small indexes has all that is asked for: what is said there, is said here.

    No index names the status, or no claim could be a HOT update. What two are over is said beside
    it: what has not ended, and what ended otherwise than well.
    """
    return {
        "is_open": filters.status is not None and filters.status not in FINAL,
        "is_unfulfilled": filters.status in FINAL - {Status.SUCCESS},
    }


def _is_small(conn: Connection, asked: dict[str, Any]) -> bool:
    """Whether what is open, or of the util, is so little that all of it may be looked at."""
    if not asked["is_open"] and asked["util_id"] is None:
        return False
    rows = conn.execute(
        """
        SELECT count(*)
          FROM (SELECT
                  FROM csb_app.csb_requests
                 WHERE tenant_id = (SELECT csb_app.current_tenant())
                   AND (NOT %(is_open)s OR finished_at IS NULL)
                   AND (%(util_id)s::uuid IS NULL OR util_id = %(util_id)s)
                 LIMIT %(most)s) place
        """,
        {**asked, "most": MOST_LOOKED_AT[-1]},
        prepare=False,  # the filters decide on the plan
    ).fetchall()
    return int(rows[0][0]) < MOST_LOOKED_AT[-1]


def _until(conn: Connection, asked: dict[str, Any], most: int) -> UUID | None:
    """The last of so many rows that a page looks at; None when there are not so many."""
    row = conn.execute(
        """
        SELECT correlation_id
          FROM csb_app.csb_requests
         WHERE tenant_id = (SELECT csb_app.current_tenant())
           AND (%(before)s::uuid IS NULL OR correlation_id < %(before)s)
           AND (NOT %(is_unfulfilled)s
                OR (finished_at IS NOT NULL AND (error IS NOT NULL OR changed IS NULL)))
         ORDER BY correlation_id DESC
         LIMIT 1
        OFFSET %(most)s - 1
        """,
        {**asked, "most": most},
        prepare=False,  # the filters decide on the plan
    ).fetchone()
    return row[0] if row else None


def _found(conn: Connection, asked: dict[str, Any]) -> tuple[list[Request], int]:
    """The requests of a page, and how many were found: more when not all go into it.

    What comes from a small place is sorted by what no index gives, or the planner would walk
    through the history for its order.
    """
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            WITH found AS MATERIALIZED (
                SELECT correlation_id, tenant_id, status, version, cloud_provider, action,
                       account_id, payload, client_request_id, attempt, max_attempts, result,
                       changed, error, requested_by, replay_of, available_at, created_at,
                       updated_at, started_at, finished_at, util_id, util_version, util_digest,
                       util_limits
                  FROM csb_app.csb_requests
                 WHERE tenant_id = (SELECT csb_app.current_tenant())
                   AND (%(before)s::uuid IS NULL OR correlation_id < %(before)s)
                   AND (%(until)s::uuid IS NULL OR correlation_id >= %(until)s)
                   AND (%(status)s::text IS NULL OR status = %(status)s)
                   AND (NOT (%(is_open)s AND %(is_small)s) OR finished_at IS NULL)
                   AND (NOT %(is_unfulfilled)s
                        OR (finished_at IS NOT NULL AND (error IS NOT NULL OR changed IS NULL)))
                   AND (%(cloud_provider)s::text IS NULL OR cloud_provider = %(cloud_provider)s)
                   AND (%(action)s::text IS NULL OR action = %(action)s)
                   AND (%(account_id)s::text IS NULL OR account_id = %(account_id)s)
                   AND (%(principal_type)s::text IS NULL OR principal_type = %(principal_type)s)
                   AND (%(principal_name)s::text IS NULL OR principal_name = %(principal_name)s)
                   AND (%(client_request_id)s::text IS NULL
                        OR client_request_id = %(client_request_id)s)
                   AND (%(util_id)s::uuid IS NULL OR util_id = %(util_id)s)
                   AND (%(created_from)s::timestamptz IS NULL OR created_at >= %(created_from)s)
                   AND (%(created_to)s::timestamptz IS NULL OR created_at < %(created_to)s)
                 ORDER BY CASE WHEN %(is_small)s THEN correlation_id::text COLLATE "C" END DESC,
                          correlation_id DESC
                 LIMIT %(limit)s),
            weighed AS (
                SELECT correlation_id, count(*) OVER () AS number,
                       row_number() OVER newest AS place,
                       sum(octet_length(payload::text) + COALESCE(octet_length(result::text), 0))
                           OVER newest AS bytes
                  FROM found
                WINDOW newest AS (ORDER BY correlation_id DESC))
            SELECT f.correlation_id, f.tenant_id, f.status, f.version, f.cloud_provider, f.action,
                   f.account_id, f.payload, f.client_request_id, f.attempt, f.max_attempts,
                   f.result, f.changed, f.error, f.requested_by, f.replay_of, f.available_at,
                   f.created_at, f.updated_at, f.started_at, f.finished_at, f.util_id,
                   f.util_version, f.util_digest, f.util_limits, w.number
              FROM found f
              JOIN weighed w ON w.correlation_id = f.correlation_id
             WHERE w.place = 1
                OR w.bytes <= %(most_bytes)s
             ORDER BY f.correlation_id DESC
            """,
            {**asked, "most_bytes": MOST_BYTES},
            prepare=False,  # the filters decide on the plan
        )
        rows = cur.fetchall()
    return [request_of(row) for row in rows], rows[0]["number"] if rows else 0
