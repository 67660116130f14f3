"""Fixtures and factories for every package's tests: real servers, fresh databases.

A conftest.py takes what it needs: `from csb_core.testing import database, postgres, ...`.
"""

from __future__ import annotations

import importlib.util
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis as redis_client
from psycopg import sql

from csb_core import keys, util_store
from csb_core.contract import digest_of
from csb_core.ids import new_id
from csb_core.local import postgres as embedded_postgres
from csb_core.local import redis as embedded_redis
from csb_core.models import Draft, Json, PinnedUtil, UtilLimits
from csb_core.util_models import About, Content

ROOT = Path(__file__).resolve().parents[3]
WORKERS = ("aws", "sandbox", "tiny")  # tiny: a provider that only tests have
ROLES = (
    "csb_migrator",
    "csb_api_user",
    "csb_admin_user",
    "csb_backup_user",
    *(f"csb_{provider}_user" for provider in WORKERS),
)
PASSWORD = "only-for-tests"
ACCOUNT = "111122223333"
LIMITS = UtilLimits(timeout_seconds=10.0, memory_limit_mb=128, cpu_limit=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A migrated, empty database of its own and one URL per role."""

    superuser: str
    migrator: str
    api: str
    aws: str
    sandbox: str
    admin: str


def migrate_module() -> ModuleType:
    """`db/migrate.py`, which is a program and no package, as a module."""
    if "csb_migrate" not in sys.modules:
        spec = importlib.util.spec_from_file_location("csb_migrate", ROOT / "db" / "migrate.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["csb_migrate"] = module
        spec.loader.exec_module(module)
    return sys.modules["csb_migrate"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded_postgres.PostgresServer]:
    """A PostgreSQL server for the run of the tests."""
    with tempfile.TemporaryDirectory(prefix="csb-pg-", ignore_cleanup_errors=True) as folder:
        server = embedded_postgres.start(Path(folder))
        try:
            yield server
        finally:
            server.stop("immediate")


@pytest.fixture(scope="session")
def template(postgres: embedded_postgres.PostgresServer) -> str:
    """The name of a migrated database from which the others are cloned."""
    return migrated(postgres.url)


def migrated(server: str) -> str:
    """Make the template on this server; returns its name. `server`: the superuser's URL."""
    name = "csb_template"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate = migrate_module()
    passwords = dict.fromkeys(ROLES, PASSWORD)
    migrate.bootstrap(_url(server, name), passwords, workers=WORKERS)
    migrate.up(_url(server, name, "csb_migrator"))
    return name


@pytest.fixture
def database(postgres: embedded_postgres.PostgresServer, template: str) -> Iterator[Database]:
    """A fresh database, dropped afterwards."""
    with cloned(postgres.url, template) as urls:
        yield urls


@contextmanager
def cloned(server: str, template: str) -> Iterator[Database]:
    """A copy of the migrated template, dropped at the end. `server`: the superuser's URL."""
    name = f"csb_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        # Grants on a database are not cloned with it.
        conn.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO csb_owner").format(sql.Identifier(name))
        )
        try:
            yield database_urls(server, name)
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def database_urls(superuser: str, name: str) -> Database:
    """The URLs of every role for a database of this server."""
    return Database(
        superuser=_url(superuser, name),
        migrator=_url(superuser, name, "csb_migrator"),
        api=_url(superuser, name, "csb_api_user"),
        aws=_url(superuser, name, "csb_aws_user"),
        sandbox=_url(superuser, name, "csb_sandbox_user"),
        admin=_url(superuser, name, "csb_admin_user"),
    )


def _url(superuser: str, name: str, role: str | None = None) -> str:
    base, _, _ = superuser.rpartition("/")
    if role is None:
        return f"{base}/{name}"
    return f"postgresql://{role}:{PASSWORD}@{base.rpartition('@')[2]}/{name}"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[embedded_redis.RedisServer]:
    """A Redis server for the run of the tests."""
    with tempfile.TemporaryDirectory(prefix="csb-redis-", ignore_cleanup_errors=True) as folder:
        server = embedded_redis.start(Path(folder), appendonly=False)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def redis_url(redis_server: embedded_redis.RedisServer) -> Iterator[str]:
    """The URL of an emptied Redis."""
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield redis_server.url


def make_tenant(url: str, code: str | None = None, *, account_id: str | None = ACCOUNT) -> UUID:
    """A tenant, with one registered AWS account unless `account_id` is None. `url`: the admin's."""
    tenant_id = uuid4()
    code = code or f"t-{tenant_id.hex[:12]}"
    with psycopg.connect(url) as conn:
        conn.execute(
            "INSERT INTO csb_app.csb_tenants (tenant_id, code, name) VALUES (%s, %s, %s)",
            (tenant_id, code, code.title()),
        )
        if account_id is not None:
            conn.execute(
                """
                INSERT INTO csb_app.csb_target_accounts
                       (tenant_id, cloud_provider, account_id, role_arn, external_id)
                VALUES (%s, 'aws', %s, %s, %s)
                """,
                (
                    tenant_id,
                    account_id,
                    f"arn:aws:iam::{account_id}:role/CSBExecutor",
                    f"csb-{tenant_id.hex}",
                ),
            )
    return tenant_id


def make_api_key(
    url: str, tenant_id: UUID, *scopes: str, requests_per_minute: int | None = None
) -> str:
    """A token of this tenant; without scopes, one that may do everything. `url`: the admin's."""
    token = keys.new_token()
    with psycopg.connect(url) as conn:
        conn.execute(
            """
            INSERT INTO csb_app.csb_api_keys
                   (key_id, tenant_id, digest, scopes, requests_per_minute)
            VALUES (%s, %s, %s, %s, %s)
            """,
            (
                keys.key_id_of(token),
                tenant_id,
                keys.token_digest(token),
                list(scopes or ("admin",)),
                requests_per_minute,
            ),
        )
    return token


def make_payload(**overrides: Any) -> Json:
    """A valid body of a POST."""
    return {
        "cloud_provider": "aws",
        "action": "attach_policy",
        "account_id": ACCOUNT,
        "principal": {"type": "user", "name": "alice"},
        "parameters": {"policy_arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"},
        **overrides,
    }


def make_draft(tenant_id: UUID, **overrides: Any) -> Draft:
    """A draft of this tenant; overrides are fields of the Draft, or of its payload."""
    fields = {name: overrides.pop(name) for name in Draft.__slots__ if name in overrides}
    payload = fields.pop("payload", None) or make_payload(**overrides)
    return Draft(
        **{
            "correlation_id": new_id(),
            "tenant_id": tenant_id,
            "payload": payload,
            "digest": digest_of(payload),
            "client_request_id": None,
            "requested_by": "testkey00000",
            "request_id": "req-test",
            "traceparent": None,
            **fields,
        }
    )


def make_util(
    url: str, tenant_id: UUID, code: str = "def transform(data):\n    return data\n", **more: Any
) -> UUID:
    """A util of this tenant, active unless it has test cases. `url`: the API's."""
    options = {name: more.pop(name) for name in ("active", "advisory") if name in more}
    kind, by = more.pop("kind", "transformer"), more.pop("by", "testkey00000")
    about = About(name=more.pop("name", None) or f"util-{secrets.token_hex(6)}")
    content: dict[str, Any] = {
        "code": code,
        "parameters": {},
        "execution_config": {"timeout_seconds": 30, "memory_limit_mb": 128, "cpu_limit": 1.0},
        "validation": {"is_valid": True, "validation_errors": [], "security_score": 100},
        **more,
    }
    with as_tenant(url, tenant_id) as conn:
        made = util_store.create(conn, about, Content(**content), kind=kind, by=by, **options)
    return made.util_id


def make_util_draft(
    url: str, tenant_id: UUID, util_id: UUID, version: int | None = None, **overrides: Any
) -> Draft:
    """A draft that runs a util (or tests it), by default its latest version. `url`: the API's."""
    with as_tenant(url, tenant_id, overrides.get("requested_by")) as conn:
        row = conn.execute(
            """
            SELECT version, digest
              FROM csb_app.csb_util_versions
             WHERE util_id = %s AND version = COALESCE(%s, version)
             ORDER BY version DESC LIMIT 1
            """,
            (util_id, version),
        ).fetchone()
    number, digest = row or (version or 1, "0" * 64)  # what the tenant cannot see is refused
    limits, action = overrides.pop("limits", LIMITS), overrides.pop("action", "run_util")
    parameters = {"util_id": str(util_id), "version": number}
    if action == "run_util":
        parameters["input"] = overrides.pop("input", None)
    payload = {"cloud_provider": "sandbox", "action": action, "parameters": parameters}
    pin = PinnedUtil(util_id=util_id, version=number, digest=digest, limits=limits)
    return make_draft(tenant_id, **{"util": pin, "payload": payload, **overrides})


@contextmanager
def as_tenant(
    url: str, tenant_id: UUID, key_id: str | None = None
) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of this tenant, and of a key of it, by a connection of its own."""
    with psycopg.connect(url) as conn:
        conn.execute(
            "SELECT set_config('csb.tenant_id', %s, true), set_config('csb.key_id', %s, true)",
            (str(tenant_id), key_id or ""),
        )
        yield conn
