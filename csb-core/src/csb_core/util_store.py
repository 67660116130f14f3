"""The store of utils' heads: create, read, change, activate, delete.

Every function takes a connection in a tenant's transaction, opened for the caller's key as well:
`tenant_transaction(pool, tenant_id, key_id=...)`. What the caller may see and change, its own utils
and those shared with it, is decided by row-level security. `by` is who does it, a key id.
`expected` is the revision that the caller has read; None changes whatever is there. Each change
leaves its row in csb_control_audit by a trigger.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Json as AsJson

from csb_core.claimed_utils import code_digest
from csb_core.db import Connection
from csb_core.errors import Conflict, NotFound, NotPermitted, RevisionMismatch
from csb_core.util_models import About, Content, Util, UtilKind


def create(
    conn: Connection,
    about: About,
    content: Content,
    *,
    kind: UtilKind,
    by: str,
    active: bool = True,
    advisory: bool = False,
) -> Util:
    """Add a util of the transaction's tenant with its first version.

    It is active at once when that is wanted, it is valid (or `advisory`), good enough for its
    tenant, and has no test cases to pass first. Raises Conflict when the name is taken.
    """
    util_id = uuid4()
    made = conn.execute(
        """
        WITH head AS (
            INSERT INTO csb_app.csb_utils (util_id, tenant_id, owner, name, description, kind,
                                           category, tags, status, active_version, created_by,
                                           updated_by)
            SELECT %(util_id)s, t.tenant_id, %(by)s, %(name)s, %(description)s, %(kind)s,
                   %(category)s, %(tags)s, CASE WHEN fit THEN 'active' ELSE 'inactive' END,
                   CASE WHEN fit THEN 1 END, %(by)s, %(by)s
              FROM csb_app.csb_tenants t,
                   LATERAL (SELECT %(active)s AND %(untested)s
                                   AND (%(advisory)s
                                        OR (%(is_valid)s
                                            AND %(score)s >= t.util_min_security_score))) f (fit)
             WHERE t.tenant_id = (SELECT csb_app.current_tenant())
            ON CONFLICT (tenant_id, name) WHERE status <> 'deleted' DO NOTHING
            RETURNING util_id, tenant_id, version)
        INSERT INTO csb_app.csb_util_versions
               (util_id, version, tenant_id, digest, label, code, parameters, execution_config,
                test_cases, validation, created_by)
        SELECT util_id, version, tenant_id, %(digest)s, %(label)s, %(code)s, %(parameters)s,
               %(execution_config)s, %(test_cases)s, %(validation)s, %(by)s
          FROM head
        """,
        {
            "util_id": util_id,
            "by": by,
            "kind": kind,
            "active": active,
            "advisory": advisory,
            **_about(about),
            **_content(kind, content),
        },
    ).rowcount
    if made == 0:
        raise Conflict(f"a util with the name {about.name!r} is there already")
    return seen(conn, util_id)


def _about(about: About) -> dict[str, Any]:
    return {
        "name": about.name,
        "description": about.description,
        "category": about.category,
        "tags": list(about.tags),
    }


def _content(kind: UtilKind, content: Content) -> dict[str, Any]:
    return {
        "digest": code_digest(kind, content.code, content.parameters, content.execution_config),
        "label": content.label,
        "code": content.code,
        "parameters": AsJson(content.parameters),
        "execution_config": AsJson(content.execution_config),
        "test_cases": AsJson(content.test_cases),
        "validation": AsJson(content.validation),
        "untested": not content.test_cases,
        "is_valid": content.validation["is_valid"],
        "score": content.validation["security_score"],
    }


def get(conn: Connection, util_id: UUID) -> Util | None:
    """A util that the caller may see, or None."""
    with conn.cursor(row_factory=class_row(Util)) as cur:
        cur.execute(
            """
            SELECT util_id, tenant_id, owner, name, description, kind, language, category, tags,
                   status, version, active_version, revision, created_at, updated_at, created_by,
                   updated_by, csb_app.access_to(util_id, tenant_id) AS access
              FROM csb_app.csb_utils
             WHERE util_id = %s
               AND status <> 'deleted'
            """,
            (util_id,),
        )
        return cur.fetchone()


def seen(conn: Connection, util_id: UUID) -> Util:
    """A util that the caller may see; raises NotFound."""
    util = get(conn, util_id)
    if util is None:
        raise NotFound(f"there is no util {util_id}")
    return util


def update(
    conn: Connection,
    util: Util,
    *,
    by: str,
    about: About | None = None,
    content: Content | None = None,
    expected: int | None = None,
    advisory: bool = False,
) -> Util:
    """Change what a util is known by, give it a new version, or both; None leaves it alone.

    Raises NotFound, RevisionMismatch, NotPermitted, and Conflict when the new name is taken.
    """
    if about is not None:
        util = describe(conn, util.util_id, about, by=by, expected=expected)
        expected = util.revision
    if content is not None:
        util = add_version(conn, util, content, by=by, expected=expected, advisory=advisory)
    return util


def describe(
    conn: Connection, util_id: UUID, about: About, *, by: str, expected: int | None = None
) -> Util:
    """Change what people know a util by; raises what `update` does."""
    try:
        done = conn.execute(
            """
            UPDATE csb_app.csb_utils
               SET name        = %(name)s,
                   description = %(description)s,
                   category    = %(category)s,
                   tags        = %(tags)s,
                   updated_by  = %(by)s
             WHERE util_id = %(util_id)s
               AND status <> 'deleted'
               AND revision = COALESCE(%(expected)s, revision)
            """,
            {"util_id": util_id, "by": by, "expected": expected, **_about(about)},
        ).rowcount
    except psycopg.errors.UniqueViolation as exc:
        raise Conflict(f"a util with the name {about.name!r} is there already") from exc
    return changed(conn, util_id, done)


def add_version(
    conn: Connection,
    util: Util,
    content: Content,
    *,
    by: str,
    expected: int | None = None,
    advisory: bool = False,
) -> Util:
    """Give a util its next version; raises what `update` does.

    An active util runs it at once when it is valid (or `advisory`), good enough for the caller's
    tenant, and has no test cases to pass first; otherwise it stays with the version that it runs.
    """
    done = conn.execute(
        """
        WITH head AS (
            UPDATE csb_app.csb_utils u
               SET version        = u.version + 1,
                   active_version = CASE WHEN u.status = 'active' AND %(untested)s
                                              AND (%(advisory)s
                                                   OR (%(is_valid)s
                                                       AND %(score)s >= t.util_min_security_score))
                                         THEN u.version + 1
                                         ELSE u.active_version END,
                   updated_by     = %(by)s
              FROM csb_app.csb_tenants t
             WHERE u.util_id = %(util_id)s
               AND u.kind = %(kind)s
               AND u.status <> 'deleted'
               AND u.revision = COALESCE(%(expected)s, u.revision)
               AND t.tenant_id = (SELECT csb_app.current_tenant())
            RETURNING u.util_id, u.tenant_id, u.version)
        INSERT INTO csb_app.csb_util_versions
               (util_id, version, tenant_id, digest, label, code, parameters, execution_config,
                test_cases, validation, created_by)
        SELECT util_id, version, tenant_id, %(digest)s, %(label)s, %(code)s, %(parameters)s,
               %(execution_config)s, %(test_cases)s, %(validation)s, %(by)s
          FROM head
        """,
        {
            "util_id": util.util_id,
            "kind": util.kind,
            "by": by,
            "expected": expected,
            "advisory": advisory,
            **_content(util.kind, content),
        },
    ).rowcount
    return changed(conn, util.util_id, done)


def changed(conn: Connection, util_id: UUID, done: int) -> Util:
    """The util after a change that touched `done` rows; raises why it touched none."""
    util = seen(conn, util_id)
    if done:
        return util
    if util.access not in {"owner", "edit"}:
        raise NotPermitted(f"this util is shared with you for {util.access}, not for edit")
    raise mismatch(util)


def mismatch(util: Util) -> RevisionMismatch:
    """The error of a change that found another revision than it expected."""
    return RevisionMismatch(f"the util has changed meanwhile: its revision is {util.revision}")
