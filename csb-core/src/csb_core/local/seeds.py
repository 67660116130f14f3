"""What a fresh platform holds: two tenants with a key and a target account each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import psycopg

from csb_core import accounts, api_keys, keys, tenants
from csb_core.api_keys import Terms
from csb_core.control_audit import acting
from csb_core.db import Connection
from csb_core.errors import NotFound
from csb_core.local.database import NotMigrated
from csb_core.local.memory import Memory
from csb_core.models import Target

ACTOR: Final = "make up"
PROVIDER: Final = "aws"
ROLE: Final = "CSBExecutor"
DEMO_USER: Final = "alice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A tenant, the account that it may act in, and the variable that names its token."""

    code: str
    name: str
    account_id: str
    variable: str


SEEDS: Final = (
    Seed(code="acme", name="Acme Corp.", account_id="111122223333", variable="CSB_TOKEN"),
    Seed(code="globex", name="Globex Inc.", account_id="444455556666", variable="CSB_OTHER_TOKEN"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Lines for csb.env, and by account the ExternalId that its role must ask for."""

    values: dict[str, str] = field(default_factory=dict)
    external_ids: dict[str, str] = field(default_factory=dict)


def plant(admin_url: str, memory: Memory, *, with_accounts: bool) -> Planted:
    """See to it that tenants, keys and accounts are there; what is there stays as it is.

    A token can be read only once, so it is remembered; one that has ended is replaced.
    """
    planted = Planted()
    try:
        with psycopg.connect(admin_url, autocommit=True) as conn, acting(conn, ACTOR):
            for seed in SEEDS:
                tenant = _tenant(conn, seed)
                planted.values[seed.variable] = _token(conn, tenant, memory, seed)
                if with_accounts:
                    account = _account(conn, tenant, seed)
                    planted.external_ids[seed.account_id] = account.external_id
    except psycopg.Error as exc:
        raise NotMigrated(f"the demo's tenants could not be written: {exc}") from exc
    if with_accounts:
        planted.values.update(CSB_DEMO_ACCOUNT=SEEDS[0].account_id, CSB_DEMO_USER=DEMO_USER)
    return planted


def _tenant(conn: Connection, seed: Seed) -> UUID:
    try:
        return tenants.find(conn, seed.code).tenant_id
    except NotFound:
        return tenants.create(conn, code=seed.code, name=seed.name).tenant_id


def _token(conn: Connection, tenant: UUID, memory: Memory, seed: Seed) -> str:
    token = memory.get(f"token.{seed.code}") or ""
    now = datetime.now(UTC)
    usable = {
        key.key_id
        for key in api_keys.list_of(conn, tenant)
        if key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
    }
    if keys.key_id_of(token) not in usable:
        token, _ = api_keys.create(conn, tenant, Terms(scopes=["admin"], label="demo"))
        memory.put(f"token.{seed.code}", token)
    return token


def _account(conn: Connection, tenant: UUID, seed: Seed) -> accounts.Account:
    try:
        return accounts.find(conn, tenant, cloud_provider=PROVIDER, account_id=seed.account_id)
    except NotFound:
        target = Target(
            account_id=seed.account_id,
            role_arn=f"arn:aws:iam::{seed.account_id}:role/{ROLE}",
            external_id=accounts.new_external_id(),
        )
        return accounts.register(conn, tenant, target, cloud_provider=PROVIDER, label="demo")
