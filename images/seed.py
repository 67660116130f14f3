"""Give a development platform its first tenant: compose.yaml runs it once, after the migrations.

Tenant `acme`, an account that the local AWS holds, and a token, which is printed. Repeating it
changes nothing but the token: that can be read only once.
"""

from __future__ import annotations

import os
import sys
from typing import Final
from uuid import UUID

import psycopg

from csb_core import accounts, api_keys, tenants
from csb_core.api_keys import Terms
from csb_core.control_audit import acting
from csb_core.db import Connection
from csb_core.errors import NotFound
from csb_core.models import Target

ACTOR: Final = "compose"
TENANT: Final = "acme"
ACCOUNT: Final = "111122223333"

#: The local AWS, started without a seed, lets nobody in who names another one.
EXTERNAL_ID: Final = f"local-{ACCOUNT}"


def main() -> None:
    """Print the token. Raises psycopg.Error, with the database's reason."""
    url = os.environ["CSB_ADMIN_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as conn, acting(conn, ACTOR):
        tenant = _tenant(conn)
        _account(conn, tenant)
        for key in api_keys.list_of(conn, tenant):
            if key.label == ACTOR and key.revoked_at is None:
                api_keys.revoke(conn, key.key_id)
        token, _ = api_keys.create(conn, tenant, Terms(scopes=["admin"], label=ACTOR))
    sys.stdout.write(f"CSB_URL=http://127.0.0.1:8000\nCSB_TOKEN={token}\n")


def _tenant(conn: Connection) -> UUID:
    try:
        return tenants.find(conn, TENANT).tenant_id
    except NotFound:
        return tenants.create(conn, code=TENANT, name="Acme Corp.").tenant_id


def _account(conn: Connection, tenant: UUID) -> None:
    try:
        accounts.find(conn, tenant, cloud_provider="aws", account_id=ACCOUNT)
    except NotFound:
        target = Target(
            account_id=ACCOUNT,
            role_arn=f"arn:aws:iam::{ACCOUNT}:role/CSBExecutor",
            external_id=EXTERNAL_ID,
        )
        accounts.register(conn, tenant, target, cloud_provider="aws", label=ACTOR)


if __name__ == "__main__":
    main()
