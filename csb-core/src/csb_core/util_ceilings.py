"""The ceilings of a tenant: what its executions may take at most. Changes are audited."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from psycopg.rows import class_row

from csb_core.db import Connection
from csb_core.errors import NotFound
from csb_core.util_models import Ceilings


def of(conn: Connection, tenant_id: UUID) -> Ceilings:
    """The ceilings of a tenant that the connection may see; raises NotFound."""
    with conn.cursor(row_factory=class_row(Ceilings)) as cur:
        cur.execute(
            """
            SELECT util_max_timeout_seconds AS timeout_seconds,
                   util_max_memory_mb AS memory_limit_mb,
                   util_max_cpu AS cpu_limit,
                   util_min_security_score AS security_score
              FROM csb_app.csb_tenants
             WHERE tenant_id = %s
            """,
            (tenant_id,),
        )
        found = cur.fetchone()
    if found is None:
        raise NotFound(f"there is no tenant {tenant_id}")
    return found


def change(conn: Connection, tenant_id: UUID, ceilings: Mapping[str, float | None]) -> None:
    """Set those ceilings that are given, by the names of their fields; operators only."""
    conn.execute(
        """
        UPDATE csb_app.csb_tenants
           SET util_max_timeout_seconds = COALESCE(%(timeout_seconds)s, util_max_timeout_seconds),
               util_max_memory_mb       = COALESCE(%(memory_limit_mb)s, util_max_memory_mb),
               util_max_cpu             = COALESCE(%(cpu_limit)s, util_max_cpu),
               util_min_security_score  = COALESCE(%(security_score)s, util_min_security_score)
         WHERE tenant_id = %(tenant_id)s
        """,
        {
            "tenant_id": tenant_id,
            **{name: ceilings.get(name) for name in Ceilings.__slots__},
        },
    )
