"""A util's status: which version runs, whether it runs at all, and its end.

As in `util_store`, the connection is in a transaction of the caller's tenant and key.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from csb_core.db import Connection
from csb_core.errors import Conflict, NotFound, NotPermitted
from csb_core.util_models import Util
from csb_core.util_store import changed, mismatch, seen


def activate(
    conn: Connection,
    util_id: UUID,
    version: int | None = None,
    *,
    by: str,
    expected: int | None = None,
    advisory: bool = False,
) -> Util:
    """Let executions run this version, by default the latest.

    It must be valid (or `advisory`) and good enough for the caller's tenant, and its test cases, if
    there are any, must have passed: a test_util request of this very version that ended SUCCESS.
    Raises NotFound, RevisionMismatch, NotPermitted, and Conflict saying which of it is missing.
    """
    asked = {
        "util_id": util_id,
        "version": version,
        "by": by,
        "expected": expected,
        "advisory": advisory,
    }
    done = conn.execute(
        """
        UPDATE csb_app.csb_utils u
           SET status         = 'active',
               active_version = v.version,
               updated_by     = %(by)s
          FROM csb_app.csb_util_versions v,
               csb_app.csb_tenants t
         WHERE u.util_id = %(util_id)s
           AND u.status <> 'deleted'
           AND u.revision = COALESCE(%(expected)s, u.revision)
           AND v.util_id = u.util_id
           AND v.version = COALESCE(%(version)s, u.version)
           AND t.tenant_id = (SELECT csb_app.current_tenant())
           AND (%(advisory)s
                OR ((v.validation ->> 'is_valid')::boolean
                    AND (v.validation ->> 'security_score')::numeric >= t.util_min_security_score))
           AND (json_array_length(v.test_cases) = 0
                OR EXISTS (SELECT
                             FROM csb_app.csb_requests r
                            WHERE r.tenant_id = t.tenant_id
                              AND r.util_id = v.util_id
                              AND r.util_version = v.version
                              AND r.util_digest = v.digest
                              AND r.action = 'test_util'
                              AND r.status = 'SUCCESS'))
        """,
        asked,
    ).rowcount
    util = seen(conn, util_id)
    may_change = util.access in {"owner", "edit"}
    if done == 0 and may_change and expected in {None, util.revision}:
        raise _unfit(_fitness(conn, asked))
    return changed(conn, util_id, done)


def _fitness(conn: Connection, asked: dict[str, Any]) -> dict[str, Any] | None:
    """What keeps a version from being activated; None when there is no such version."""
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            """
            SELECT v.version,
                   (v.validation ->> 'is_valid')::boolean AS is_valid,
                   (v.validation ->> 'security_score')::numeric AS score,
                   t.util_min_security_score AS least
              FROM csb_app.csb_utils u
              JOIN csb_app.csb_util_versions v
                ON v.util_id = u.util_id
               AND v.version = COALESCE(%(version)s, u.version),
                   csb_app.csb_tenants t
             WHERE u.util_id = %(util_id)s
               AND t.tenant_id = (SELECT csb_app.current_tenant())
            """,
            asked,
        )
        return {**row, **asked, "version": row["version"]} if (row := cur.fetchone()) else None


def _unfit(found: dict[str, Any] | None) -> NotFound | Conflict:
    if found is None:
        return NotFound("the util has no such version")
    version, enforced = found["version"], not found["advisory"]
    if enforced and not found["is_valid"]:
        return Conflict(f"version {version} is not valid: see its validation_errors")
    if enforced and found["score"] < found["least"]:
        return Conflict(
            f"version {version} has the security score {found['score']}; "
            f"this tenant asks for {found['least']}"
        )
    return Conflict(f"the test cases of version {version} have not passed: test it first")


def deactivate(conn: Connection, util_id: UUID, *, by: str, expected: int | None = None) -> Util:
    """Let nobody run a util until it is activated again; what is accepted already still runs.

    Raises NotFound, RevisionMismatch, NotPermitted.
    """
    done = conn.execute(
        """
        UPDATE csb_app.csb_utils
           SET status     = 'inactive',
               updated_by = %(by)s
         WHERE util_id = %(util_id)s
           AND status <> 'deleted'
           AND revision = COALESCE(%(expected)s, revision)
        """,
        {"util_id": util_id, "by": by, "expected": expected},
    ).rowcount
    return changed(conn, util_id, done)


def delete(conn: Connection, util_id: UUID, *, by: str, expected: int | None = None) -> None:
    """End a util of the caller's tenant for good; its name is free again, its versions are kept.

    Raises NotFound, RevisionMismatch, NotPermitted, and Conflict while it is shared or the tenant
    has executions of it that have not ended.
    """
    done = conn.execute(
        """
        UPDATE csb_app.csb_utils u
           SET status     = 'deleted',
               updated_by = %(by)s
         WHERE u.util_id = %(util_id)s
           AND u.tenant_id = (SELECT csb_app.current_tenant())
           AND u.status <> 'deleted'
           AND u.revision = COALESCE(%(expected)s, u.revision)
           AND NOT EXISTS (SELECT FROM csb_app.csb_util_shares s WHERE s.util_id = u.util_id)
           AND NOT EXISTS (SELECT
                             FROM csb_app.csb_requests r
                            WHERE r.util_id = u.util_id
                              AND r.tenant_id = u.tenant_id
                              AND r.cloud_provider = 'sandbox'
                              AND r.finished_at IS NULL)
        """,
        {"util_id": util_id, "by": by, "expected": expected},
    ).rowcount
    if done:
        return
    util = seen(conn, util_id)
    if util.access != "owner":
        raise NotPermitted("only the tenant that owns a util deletes it")
    if expected not in {None, util.revision}:
        raise mismatch(util)
    raise Conflict(_references(conn, util_id))


def _references(conn: Connection, util_id: UUID) -> str:
    """What keeps a util from being deleted, in words."""
    shares, running = conn.execute(
        """
        SELECT (SELECT count(*) FROM csb_app.csb_util_shares WHERE util_id = %(util_id)s),
               (SELECT count(*)
                  FROM csb_app.csb_requests
                 WHERE util_id = %(util_id)s
                   AND tenant_id = (SELECT csb_app.current_tenant())
                   AND cloud_provider = 'sandbox'
                   AND finished_at IS NULL)
        """,
        {"util_id": util_id},
    ).fetchall()[0]
    return (
        f"the util is still referenced: {shares} shares and {running} executions that have not "
        "ended; remove the shares, and wait for the executions or cancel them"
    )
