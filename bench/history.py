"""Finished requests by the million: rows as the platform leaves them, written by SQL."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg

from bench.store import payload

_CHUNK: Final = 100_000
_OTHER_TENANTS: Final = 9

# Every other request is our tenant's. Ids and times lie in the past, in order, a chunk at a time.
_REQUESTS: Final = """
    INSERT INTO csb_app.csb_requests
           (correlation_id, tenant_id, status, version, cloud_provider, action, account_id,
            principal_type, principal_name, payload, digest, client_request_id, requested_by,
            moved_by, request_id, traceparent, attempt, lease_token, lease_owner, available_at,
            rung_at, result, changed, created_at, updated_at, started_at, finished_at)
    SELECT uuidv7(made - now()), tenant_id, 'SUCCESS', 3, 'aws', 'attach_policy', '111122223333',
           'user', %(principal)s, %(payload)s::json, sha, 'history-' || n, 'historykey00',
           'aws:host:1:abcdef01', 'req-' || n,
           '00-' || left(sha, 32) || '-' || left(sha, 16) || '-01',
           1, 1, 'aws:host:1:abcdef01', made, made, '{"attached": true}', false,
           made, made + interval '6 ms', made + interval '4 ms', made + interval '6 ms'
      FROM (SELECT n,
                   now() - make_interval(secs => (%(of)s - n) * 0.5 + 60) AS made,
                   CASE n %% 2 WHEN 0 THEN %(ours)s
                               ELSE (%(others)s::uuid[])[1 + n / 2 %% %(count)s] END AS tenant_id,
                   encode(sha256(n::text::bytea), 'hex') AS sha
              FROM generate_series(%(first)s::integer, %(last)s::integer) n) rows
"""

_AUDIT: Final = """
    INSERT INTO csb_app.csb_requests_audit
           (at, correlation_id, tenant_id, event, from_status, to_status, mover, prior_version,
            version, attempt, lease_token, actor, db_role, changed)
    SELECT CASE move.version WHEN 1 THEN r.created_at WHEN 2 THEN r.started_at
                             ELSE r.finished_at END,
           r.correlation_id, r.tenant_id, move.event, move.from_status, move.to_status, move.mover,
           nullif(move.version - 1, 0), move.version, least(move.version - 1, 1),
           least(move.version - 1, 1),
           CASE move.mover WHEN 'api' THEN r.requested_by ELSE r.moved_by END, move.db_role,
           CASE move.version WHEN 3 THEN r.changed END
      FROM csb_app.csb_requests r,
           (VALUES (1, 'created', NULL, 'PENDING', 'api', 'csb_api_user'),
                   (2, 'moved', 'PENDING', 'IN_PROGRESS', 'worker', 'csb_aws_user'),
                   (3, 'moved', 'IN_PROGRESS', 'SUCCESS', 'worker', 'csb_aws_user'))
               AS move (version, event, from_status, to_status, mover, db_role)
     WHERE r.correlation_id > %(since)s
"""

_NEWEST: Final = """
    SELECT correlation_id
      FROM csb_app.csb_requests
     ORDER BY correlation_id DESC
     LIMIT 1
"""


def write(conn: psycopg.Connection[Any], ours: UUID, rows: int) -> None:
    """Add finished requests with their trail, half of them our tenant's; then vacuum and analyse.

    `conn` is the superuser's, in autocommit: policies, triggers and foreign keys stand aside.
    """
    others = [str(uuid4()) for _ in range(_OTHER_TENANTS)]
    body = payload(client_request_id="history-0000000001")
    since = UUID(int=0)
    for first in range(1, rows + 1, _CHUNK):
        with conn.transaction():
            conn.execute("SET LOCAL session_replication_role = replica")
            conn.execute("SET LOCAL synchronous_commit = off")
            conn.execute(
                _REQUESTS,
                {
                    "first": first,
                    "last": min(first + _CHUNK - 1, rows),
                    "of": rows,
                    "ours": ours,
                    "others": others,
                    "count": len(others),
                    "principal": body["principal"]["name"],
                    "payload": json.dumps(body),
                },
            )
            conn.execute(_AUDIT, {"since": since})
            row = conn.execute(_NEWEST).fetchone()
            assert row is not None
            since = row[0]
    conn.execute("VACUUM (ANALYZE) csb_app.csb_requests, csb_app.csb_requests_audit")
    conn.execute("CHECKPOINT")
