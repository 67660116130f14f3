"""The store of target accounts: where a tenant may act, and the way in.

Each change leaves its row in csb_control_audit by a trigger; ExternalIds are left out of it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from csb_core.db import Connection
from csb_core.errors import Conflict, NotFound
from csb_core.models import Target

AccountStatus = Literal["active", "disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A target account of one tenant, and the way into it."""

    tenant_id: UUID
    cloud_provider: str
    account_id: str
    role_arn: str
    external_id: str
    label: str
    status: AccountStatus
    created_at: datetime

    @property
    def target(self) -> Target:
        """What a worker needs to enter it."""
        return Target(
            account_id=self.account_id, role_arn=self.role_arn, external_id=self.external_id
        )


def new_external_id() -> str:
    """Return a fresh ExternalId; it is always ours, never the customer's choice."""
    return f"csb-{secrets.token_hex(16)}"


def register(
    conn: Connection,
    tenant_id: UUID,
    target: Target,
    *,
    cloud_provider: str,
    label: str = "",
) -> Account:
    """Let a tenant act in an account; raises Conflict when it may already, or did once."""
    with conn.cursor(row_factory=class_row(Account)) as cur:
        cur.execute(
            """
            INSERT INTO csb_app.csb_target_accounts (tenant_id, cloud_provider, account_id,
                                                     role_arn, external_id, label)
            VALUES (%(tenant_id)s, %(cloud_provider)s, %(account_id)s, %(role_arn)s,
                    %(external_id)s, %(label)s)
            ON CONFLICT (tenant_id, cloud_provider, account_id) DO NOTHING
            RETURNING tenant_id, cloud_provider, account_id, role_arn, external_id, label, status,
                      created_at
            """,
            {
                "tenant_id": tenant_id,
                "cloud_provider": cloud_provider,
                "account_id": target.account_id,
                "role_arn": target.role_arn,
                "external_id": target.external_id,
                "label": label,
            },
        )
        account = cur.fetchone()
    if account is None:
        raise Conflict(
            f"account {target.account_id} is registered for this tenant already; "
            "`csbctl account enable` brings a disabled one back"
        )
    return account


def list_of(conn: Connection, tenant_id: UUID) -> list[Account]:
    """Return a tenant's accounts by provider and id."""
    with conn.cursor(row_factory=class_row(Account)) as cur:
        cur.execute(
            """
            SELECT tenant_id, cloud_provider, account_id, role_arn, external_id, label, status,
                   created_at
              FROM csb_app.csb_target_accounts
             WHERE tenant_id = %s
             ORDER BY cloud_provider, account_id
            """,
            (tenant_id,),
        )
        return cur.fetchall()


def list_by_id(conn: Connection, *, cloud_provider: str, account_id: str) -> list[Account]:
    """Return what each tenant that may act in an account has registered; for operators."""
    with conn.cursor(row_factory=class_row(Account)) as cur:
        cur.execute(
            """
            SELECT tenant_id, cloud_provider, account_id, role_arn, external_id, label, status,
                   created_at
              FROM csb_app.csb_target_accounts
             WHERE cloud_provider = %(cloud_provider)s
               AND account_id = %(account_id)s
             ORDER BY created_at
            """,
            {"cloud_provider": cloud_provider, "account_id": account_id},
        )
        return cur.fetchall()


def find(conn: Connection, tenant_id: UUID, *, cloud_provider: str, account_id: str) -> Account:
    """Return one account of a tenant; raises NotFound."""
    for account in list_of(conn, tenant_id):
        if (account.cloud_provider, account.account_id) == (cloud_provider, account_id):
            return account
    raise NotFound(
        f"account {account_id} is not registered for this tenant; `csbctl account list` shows those"
    )


def set_status(
    conn: Connection,
    tenant_id: UUID,
    *,
    cloud_provider: str,
    account_id: str,
    status: AccountStatus,
) -> None:
    """Close an account, also to what was accepted and waits, or open it; raises NotFound."""
    done = conn.execute(
        """
        UPDATE csb_app.csb_target_accounts
           SET status = %(status)s
         WHERE tenant_id = %(tenant_id)s
           AND cloud_provider = %(cloud_provider)s
           AND account_id = %(account_id)s
        """,
        {
            "tenant_id": tenant_id,
            "cloud_provider": cloud_provider,
            "account_id": account_id,
            "status": status,
        },
    )
    if done.rowcount == 0:
        raise NotFound(f"account {account_id} is not registered for this tenant")


def replace_external_id(conn: Connection, account: Account, external_id: str) -> None:
    """Enter an account by another ExternalId from now on; raises Conflict if it changed meanwhile.

    Attempts under way were given the old one, and go on with it.
    """
    done = conn.execute(
        """
        UPDATE csb_app.csb_target_accounts
           SET external_id = %(fresh)s
         WHERE tenant_id = %(tenant_id)s
           AND cloud_provider = %(cloud_provider)s
           AND account_id = %(account_id)s
           AND external_id = %(known)s
        """,
        {
            "tenant_id": account.tenant_id,
            "cloud_provider": account.cloud_provider,
            "account_id": account.account_id,
            "known": account.external_id,
            "fresh": external_id,
        },
    )
    if done.rowcount == 0:
        raise Conflict(f"somebody else changed account {account.account_id}: look at it again")
