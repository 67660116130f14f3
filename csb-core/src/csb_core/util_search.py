"""Lists of the utils that a caller may see: its tenant's own, and those shared with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from csb_core.db import Connection
from csb_core.util_models import Util, UtilKind, UtilStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list narrows by; None leaves a field open.

    `q` is looked for in name and description, whatever its case; `shared` tells the utils of
    other tenants from the caller's own.
    """

    status: UtilStatus | None = None
    kind: UtilKind | None = None
    category: str | None = None
    tag: str | None = None
    q: str | None = None
    shared: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Where a page ended: its last util."""

    updated_at: datetime
    util_id: UUID


def list_page(
    conn: Connection,
    filters: Filters,
    *,
    limit: int,
    offset: int = 0,
    after: Edge | None = None,
) -> list[Util]:
    """Utils that the caller may see, the last changed first: from `offset` on, or after an edge.

    `conn` is in a transaction of the caller's tenant and key.
    """
    with conn.cursor(row_factory=class_row(Util)) as cur:
        cur.execute(
            """
            SELECT util_id, tenant_id, owner, name, description, kind, language, category, tags,
                   status, version, active_version, revision, created_at, updated_at, created_by,
                   updated_by, csb_app.access_to(util_id, tenant_id) AS access
              FROM csb_app.csb_utils
             WHERE status <> 'deleted'
               AND (%(status)s::text IS NULL OR status = %(status)s)
               AND (%(kind)s::text IS NULL OR kind = %(kind)s)
               AND (%(category)s::text IS NULL OR category = %(category)s)
               AND (%(tag)s::text IS NULL OR %(tag)s = ANY (tags))
               AND (%(q)s::text IS NULL OR name ILIKE %(q)s OR description ILIKE %(q)s)
               AND (%(shared)s::boolean IS NULL
                    OR %(shared)s = (tenant_id <> (SELECT csb_app.current_tenant())))
               AND (%(updated_at)s::timestamptz IS NULL
                    OR (updated_at, util_id) < (%(updated_at)s, %(util_id)s::uuid))
             ORDER BY updated_at DESC, util_id DESC
             LIMIT %(limit)s
            OFFSET %(offset)s
            """,
            {
                **_narrowing(filters),
                "updated_at": after.updated_at if after else None,
                "util_id": after.util_id if after else None,
                "limit": limit,
                "offset": offset,
            },
            prepare=False,  # the filters decide on the plan
        )
        return cur.fetchall()


def count(conn: Connection, filters: Filters) -> int:
    """How many utils the caller may see that the filters let through."""
    row = conn.execute(
        """
        SELECT count(*)
          FROM csb_app.csb_utils
         WHERE status <> 'deleted'
           AND (%(status)s::text IS NULL OR status = %(status)s)
           AND (%(kind)s::text IS NULL OR kind = %(kind)s)
           AND (%(category)s::text IS NULL OR category = %(category)s)
           AND (%(tag)s::text IS NULL OR %(tag)s = ANY (tags))
           AND (%(q)s::text IS NULL OR name ILIKE %(q)s OR description ILIKE %(q)s)
           AND (%(shared)s::boolean IS NULL
                OR %(shared)s = (tenant_id <> (SELECT csb_app.current_tenant())))
        """,
        _narrowing(filters),
        prepare=False,
    ).fetchall()
    return int(row[0][0])


def _narrowing(filters: Filters) -> dict[str, Any]:
    return {
        "status": filters.status,
        "kind": filters.kind,
        "category": filters.category,
        "tag": filters.tag,
        "q": None if filters.q is None else f"%{_literal(filters.q)}%",
        "shared": filters.shared,
    }


def _literal(text: str) -> str:
    """The text with nothing in it that LIKE reads as a pattern."""
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
