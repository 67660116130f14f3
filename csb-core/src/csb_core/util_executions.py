"""Executions of utils: what one is decided on, and those that there were.

As in `util_store`, the connection is in a transaction of the caller's tenant and key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from csb_core.db import Connection
from csb_core.models import Request
from csb_core.request_page import MOST_BYTES, Page
from csb_core.requests import request_of
from csb_core.util_models import Ceilings, Runnable, Util, UtilVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one execution took."""

    wall_ms: float
    memory_peak_kb: float


def resolve(conn: Connection, util_id: UUID, version: int | None = None) -> Runnable | None:
    """A util, this version of it (else the active one) and the caller's ceilings, in one statement.

    None when the caller sees no such util. Whether it may run is for `submit` to decide: this is
    what may be kept in a cache.
    """
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT u.util_id, u.tenant_id, u.owner, u.name, u.description, u.kind, u.language,
                   u.category, u.tags, u.status, u.version, u.active_version, u.revision,
                   u.created_at, u.updated_at, u.created_by, u.updated_by,
                   csb_app.access_to(u.util_id, u.tenant_id) AS access,
                   v.version AS v_version, v.digest AS v_digest, v.label AS v_label,
                   v.code AS v_code, v.parameters AS v_parameters,
                   v.execution_config AS v_execution_config, v.test_cases AS v_test_cases,
                   v.validation AS v_validation, v.rollback_of AS v_rollback_of,
                   v.created_at AS v_created_at, v.created_by AS v_created_by,
                   t.util_max_timeout_seconds AS t_timeout_seconds,
                   t.util_max_memory_mb AS t_memory_limit_mb,
                   t.util_max_cpu AS t_cpu_limit,
                   t.util_min_security_score AS t_security_score
              FROM csb_app.csb_utils u
              LEFT JOIN csb_app.csb_util_versions v
                ON v.util_id = u.util_id
               AND v.version = COALESCE(%(version)s, u.active_version)
             CROSS JOIN csb_app.csb_tenants t
             WHERE u.util_id = %(util_id)s
               AND u.status <> 'deleted'
               AND t.tenant_id = (SELECT csb_app.current_tenant())
            """,
            {"util_id": util_id, "version": version},
        )
        row = cur.fetchone()
    return _runnable(row) if row else None


def _runnable(row: Mapping[str, Any]) -> Runnable:
    ids = {"util_id": row["util_id"], "tenant_id": row["tenant_id"]}
    found = row["v_version"] is not None
    return Runnable(
        util=Util(**{name: row[name] for name in Util.__slots__}),
        version=UtilVersion(**ids, **_prefixed(row, "v_")) if found else None,
        ceilings=Ceilings(**_prefixed(row, "t_")),
    )


def _prefixed(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): row[name] for name in row if name.startswith(prefix)}


def list_of(
    conn: Connection,
    util_id: UUID,
    *,
    action: str = "run_util",
    before: UUID | None = None,
    limit: int = 50,
) -> Page:
    """A page of the caller's tenant's executions of a util (or tests of it), newest first.

    It holds MOST_BYTES at most, unless it is of one execution: a value may be a megabyte.
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
                   AND util_id = %(util_id)s
                   AND action = %(action)s
                   AND (%(before)s::uuid IS NULL OR correlation_id < %(before)s)
                 ORDER BY correlation_id DESC
                 LIMIT %(limit)s + 1),
            weighed AS (
                SELECT correlation_id, row_number() OVER newest AS place,
                       sum(octet_length(payload::text) + COALESCE(octet_length(result::text), 0))
                           OVER newest AS bytes
                  FROM found
                WINDOW newest AS (ORDER BY correlation_id DESC))
            SELECT f.correlation_id, f.tenant_id, f.status, f.version, f.cloud_provider, f.action,
                   f.account_id, f.payload, f.client_request_id, f.attempt, f.max_attempts,
                   f.result, f.changed, f.error, f.requested_by, f.replay_of, f.available_at,
                   f.created_at, f.updated_at, f.started_at, f.finished_at, f.util_id,
                   f.util_version, f.util_digest, f.util_limits,
                   (SELECT count(*) FROM found) AS number
              FROM found f
              JOIN weighed w ON w.correlation_id = f.correlation_id
             WHERE w.place = 1
                OR (w.place <= %(limit)s AND w.bytes <= %(most_bytes)s)
             ORDER BY f.correlation_id DESC
            """,
            {
                "util_id": util_id,
                "action": action,
                "before": before,
                "limit": limit,
                "most_bytes": MOST_BYTES,
            },
        )
        rows = cur.fetchall()
    more = bool(rows) and rows[0]["number"] > len(rows)
    return Page(
        requests=[request_of(row) for row in rows],
        go_on_before=rows[-1]["correlation_id"] if more else None,
    )


def unfinished_test(conn: Connection, util_id: UUID, version: int) -> Request | None:
    """The caller's tenant's latest test of this version that has not ended; None without one."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT correlation_id, tenant_id, status, version, cloud_provider, action, account_id,
                   payload, client_request_id, attempt, max_attempts, result, changed, error,
                   requested_by, replay_of, available_at, created_at, updated_at, started_at,
                   finished_at, util_id, util_version, util_digest, util_limits
              FROM csb_app.csb_requests
             WHERE tenant_id = (SELECT csb_app.current_tenant())
               AND util_id = %(util_id)s
               AND action = 'test_util'
               AND util_version = %(version)s
               AND finished_at IS NULL
             ORDER BY correlation_id DESC
             LIMIT 1
            """,
            {"util_id": util_id, "version": version},
        )
        row = cur.fetchone()
    return request_of(row) if row else None


def figures(conn: Connection, util_id: UUID, *, latest: int) -> list[Figures]:
    """What those of the caller's tenant's latest executions took that succeeded, newest first.

    Their values stay where they are: a hundred of them may be a hundred megabytes.
    """
    with conn.cursor(row_factory=class_row(Figures)) as cur:
        cur.execute(
            """
            SELECT (result ->> 'wall_ms')::float8 AS wall_ms,
                   (result ->> 'memory_peak_kb')::float8 AS memory_peak_kb
              FROM (SELECT status, result
                      FROM csb_app.csb_requests
                     WHERE tenant_id = (SELECT csb_app.current_tenant())
                       AND util_id = %(util_id)s
                       AND action = 'run_util'
                     ORDER BY correlation_id DESC
                     LIMIT %(latest)s) AS lately
             WHERE status = 'SUCCESS'
               AND jsonb_typeof(result -> 'wall_ms') = 'number'
               AND jsonb_typeof(result -> 'memory_peak_kb') = 'number'
            """,
            {"util_id": util_id, "latest": latest},
        )
        return cur.fetchall()
