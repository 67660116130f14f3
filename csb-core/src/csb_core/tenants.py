"""The store of tenants. Each change leaves its row in csb_control_audit by a trigger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from psycopg.rows import class_row

from csb_core.db import Connection
from csb_core.errors import Conflict, NotFound

TenantStatus = Literal["active", "suspended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One customer; `code` is its name in commands and logs."""

    tenant_id: UUID
    code: str
    name: str
    status: TenantStatus
    requests_per_minute: int | None
    retention_days: int | None
    created_at: datetime


def create(
    conn: Connection, *, code: str, name: str, requests_per_minute: int | None = None
) -> Tenant:
    """Add a tenant; raises Conflict when the code is taken."""
    with conn.cursor(row_factory=class_row(Tenant)) as cur:
        cur.execute(
            """
            INSERT INTO csb_app.csb_tenants (tenant_id, code, name, requests_per_minute)
            VALUES (%(tenant_id)s, %(code)s, %(name)s, %(requests_per_minute)s)
            ON CONFLICT (code) DO NOTHING
            RETURNING tenant_id, code, name, status, requests_per_minute, retention_days,
                      created_at
            """,
            {
                "tenant_id": uuid4(),
                "code": code,
                "name": name,
                "requests_per_minute": requests_per_minute,
            },
        )
        tenant = cur.fetchone()
    if tenant is None:
        raise Conflict(f"a tenant with the code {code!r} is there already")
    return tenant


def list_all(conn: Connection) -> list[Tenant]:
    """Return all tenants by their codes."""
    with conn.cursor(row_factory=class_row(Tenant)) as cur:
        cur.execute(
            """
            SELECT tenant_id, code, name, status, requests_per_minute, retention_days,
                   created_at
              FROM csb_app.csb_tenants
             ORDER BY code
            """
        )
        return cur.fetchall()


def find(conn: Connection, code: str) -> Tenant:
    """Return the tenant with this code; raises NotFound."""
    with conn.cursor(row_factory=class_row(Tenant)) as cur:
        cur.execute(
            """
            SELECT tenant_id, code, name, status, requests_per_minute, retention_days,
                   created_at
              FROM csb_app.csb_tenants
             WHERE code = %s
            """,
            (code,),
        )
        tenant = cur.fetchone()
    if tenant is None:
        raise NotFound(f"no tenant has the code {code!r}; `csbctl tenant list` shows them all")
    return tenant


def set_status(conn: Connection, tenant_id: UUID, status: TenantStatus) -> None:
    """Suspend a tenant, so that none of its keys opens anything, or let it work again."""
    conn.execute(
        """
        UPDATE csb_app.csb_tenants
           SET status = %(status)s
         WHERE tenant_id = %(tenant_id)s
           AND status <> %(status)s
        """,
        {"tenant_id": tenant_id, "status": status},
    )
