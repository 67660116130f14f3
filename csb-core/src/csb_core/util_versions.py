"""The store of versions: what a util was at any time, and how it becomes that again.

As in `util_store`, the connection is in a transaction of the caller's tenant and key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from csb_core.db import Connection
from csb_core.errors import NotFound
from csb_core.models import Json
from csb_core.util_models import Util, UtilVersion
from csb_core.util_store import changed, seen


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """A version as a list shows it: everything but what may be large."""

    version: int
    digest: str
    label: str | None
    validation: Json
    rollback_of: int | None
    created_at: datetime
    created_by: str


def list_of(
    conn: Connection, util_id: UUID, *, before: int | None = None, limit: int = 50
) -> list[VersionLine]:
    """The versions of a util, newest first, older than `before`; raises NotFound."""
    seen(conn, util_id)
    with conn.cursor(row_factory=class_row(VersionLine)) as cur:
        cur.execute(
            """
            SELECT version, digest, label, validation, rollback_of, created_at, created_by
              FROM csb_app.csb_util_versions
             WHERE util_id = %(util_id)s
               AND (%(before)s::integer IS NULL OR version < %(before)s)
             ORDER BY version DESC
             LIMIT %(limit)s
            """,
            {"util_id": util_id, "before": before, "limit": limit},
        )
        return cur.fetchall()


def get(conn: Connection, util_id: UUID, version: int) -> UtilVersion:
    """One version, whole; raises NotFound."""
    with conn.cursor(row_factory=class_row(UtilVersion)) as cur:
        cur.execute(
            """
            SELECT v.util_id, v.version, v.tenant_id, v.digest, v.label, v.code, v.parameters,
                   v.execution_config, v.test_cases, v.validation, v.rollback_of, v.created_at,
                   v.created_by
              FROM csb_app.csb_util_versions v
              JOIN csb_app.csb_utils u ON u.util_id = v.util_id
             WHERE v.util_id = %s
               AND v.version = %s
               AND u.status <> 'deleted'
            """,
            (util_id, version),
        )
        found = cur.fetchone()
    if found is None:
        raise NotFound(f"there is no version {version} of a util {util_id}")
    return found


def rollback(
    conn: Connection,
    util_id: UUID,
    version: int,
    *,
    by: str,
    expected: int | None = None,
    advisory: bool = False,
) -> Util:
    """Make an earlier version the latest again, as a new one with its content.

    An active util runs it at once when that version is fit to run: the same conditions as to
    activate it, and the tests that it passed then count. Otherwise the util stays with what it
    runs. Raises NotFound, RevisionMismatch, NotPermitted.
    """
    get(conn, util_id, version)
    done = conn.execute(
        """
        WITH head AS (
            UPDATE csb_app.csb_utils u
               SET version        = u.version + 1,
                   active_version = CASE WHEN u.status = 'active' AND (%(advisory)s OR fit.valid)
                                              AND fit.tested
                                         THEN u.version + 1
                                         ELSE u.active_version END,
                   updated_by     = %(by)s
              FROM csb_app.csb_util_versions v,
                   csb_app.csb_tenants t,
                   LATERAL (
                       SELECT (v.validation ->> 'is_valid')::boolean
                              AND (v.validation ->> 'security_score')::numeric
                                  >= t.util_min_security_score,
                              json_array_length(v.test_cases) = 0
                              OR EXISTS (SELECT
                                           FROM csb_app.csb_requests r
                                          WHERE r.tenant_id = t.tenant_id
                                            AND r.util_id = v.util_id
                                            AND r.util_version = v.version
                                            AND r.util_digest = v.digest
                                            AND r.action = 'test_util'
                                            AND r.status = 'SUCCESS')) fit (valid, tested)
             WHERE u.util_id = %(util_id)s
               AND u.status <> 'deleted'
               AND u.revision = COALESCE(%(expected)s, u.revision)
               AND v.util_id = u.util_id
               AND v.version = %(version)s
               AND t.tenant_id = (SELECT csb_app.current_tenant())
            RETURNING u.util_id, u.version)
        INSERT INTO csb_app.csb_util_versions
               (util_id, version, tenant_id, digest, label, code, parameters, execution_config,
                test_cases, validation, rollback_of, created_by)
        SELECT head.util_id, head.version, v.tenant_id, v.digest, v.label, v.code, v.parameters,
               v.execution_config, v.test_cases, v.validation, v.version, %(by)s
          FROM head
          JOIN csb_app.csb_util_versions v
            ON v.util_id = head.util_id
           AND v.version = %(version)s
        """,
        {
            "util_id": util_id,
            "version": version,
            "by": by,
            "expected": expected,
            "advisory": advisory,
        },
    ).rowcount
    return changed(conn, util_id, done)
