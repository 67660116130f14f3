"""An API over a real PostgreSQL and a real Redis, called as a client calls it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api_service.app import create_app, deps_of
from csb_core import leases
from csb_core.cache import StatusCache
from csb_core.config import ApiSettings, load
from csb_core.local import redis as embedded_redis
from csb_core.local.redis import RedisServer
from csb_core.models import Lease, Ref
from csb_core.states import Status
from csb_core.testing import (
    Database,
    database,
    make_api_key,
    make_tenant,
    postgres,
    redis_server,
    redis_url,
    template,
)

__all__ = ["database", "postgres", "redis_server", "redis_url", "template"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant and a key of it."""

    tenant_id: UUID
    token: str


NewTenant = Callable[..., Tenant]
Body = Callable[..., dict[str, Any]]
NewUtil = Callable[..., dict[str, Any]]
Run = Callable[..., None]
ClientOf = Callable[[Tenant], FlaskClient]
Work = Callable[[str, Status], None]


@pytest.fixture
def settings(database: Database, redis_url: str) -> ApiSettings:
    """Settings for this test's database and Redis, with the limits out of the way."""
    return load(
        ApiSettings,
        database_url=database.api,
        redis_url=redis_url,
        rate_limit_tenant="100000/minute",
        rate_limit_key="100000/minute",
        pool_timeout_seconds=1,
    )


@pytest.fixture
def make_app(settings: ApiSettings) -> Iterator[Callable[..., Flask]]:
    """A factory of apps whose settings differ in what is given; closed when the test ends."""
    made: list[Flask] = []

    def make(**changed: Any) -> Flask:
        made.append(create_app(settings.model_copy(update=changed)))
        return made[-1]

    yield make
    for app in made:
        deps_of(app).close()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The API."""
    return make_app()


@pytest.fixture
def new_tenant(database: Database) -> NewTenant:
    """A factory of tenants, each with a registered account and a key with these scopes, or all."""

    def new(*scopes: str, requests_per_minute: int | None = None) -> Tenant:
        tenant_id = make_tenant(database.admin)
        token = make_api_key(
            database.admin, tenant_id, *scopes, requests_per_minute=requests_per_minute
        )
        return Tenant(tenant_id=tenant_id, token=token)

    return new


@pytest.fixture
def tenant(new_tenant: NewTenant) -> Tenant:
    """A tenant whose key may do everything."""
    return new_tenant()


@pytest.fixture
def client_of(app: Flask) -> ClientOf:
    """A factory of clients that send a tenant's key with every call."""

    def make(tenant: Tenant) -> FlaskClient:
        client = app.test_client()
        client.environ_base["HTTP_X_AUTH_TOKEN"] = tenant.token
        return client

    return make


@pytest.fixture
def client(client_of: ClientOf, tenant: Tenant) -> FlaskClient:
    """A client of the tenant."""
    return client_of(tenant)


@pytest.fixture
def key_of(database: Database, app: Flask) -> Callable[..., FlaskClient]:
    """A factory of clients, each with a key of its own of this tenant, with these scopes or all."""

    def make(tenant: Tenant, *scopes: str) -> FlaskClient:
        client = app.test_client()
        token = make_api_key(database.admin, tenant.tenant_id, *scopes)
        client.environ_base["HTTP_X_AUTH_TOKEN"] = token
        return client

    return make


@pytest.fixture
def body() -> Body:
    """A factory of valid bodies of POST /api/v1/utils."""
    return _body


def _body(**more: Any) -> dict[str, Any]:
    return {
        "name": f"util-{secrets.token_hex(4)}",
        "description": "Gives back what it gets.",
        "kind": "transformer",
        "code": "def transform(data):\n    return data\n",
        **more,
    }


@pytest.fixture
def new_util(client: FlaskClient) -> NewUtil:
    """A factory of utils of the tenant: their documents."""

    def make(**more: Any) -> dict[str, Any]:
        made = client.post("/api/v1/utils", json=_body(**more))
        assert made.status_code == 201, made.text
        document: dict[str, Any] = made.get_json()
        return document

    return make


@pytest.fixture
def run(database: Database, redis_url: str) -> Run:
    """Claims a request and ends it as the sandbox's worker does, with this value and status."""

    def end(correlation_id: str, value: Any = None, status: Status = Status.SUCCESS) -> None:
        wanted = UUID(correlation_id)
        with (
            psycopg.connect(database.sandbox, autocommit=True) as conn,
            redis.Redis.from_url(redis_url) as store,
        ):
            lease = _claimed(conn, wanted)
            result = {"value": value, "exit_reason": "ok", "wall_ms": 4.2, "memory_peak_kb": 9000}
            ended = replace(_end(wanted, lease.token, status), result=result)
            version = leases.record(conn, [ended], worker="w1")[wanted].version
            StatusCache(store).forget([(wanted, version)])

    return end


def _claimed(conn: psycopg.Connection[Any], wanted: UUID) -> Lease:
    digest = leases.standing(conn, [wanted])[wanted].digest
    candidate = leases.Candidate(correlation_id=wanted, digest=digest)
    [lease] = leases.claim(conn, [candidate], worker="w1", ttl=timedelta(seconds=30))
    return lease


@pytest.fixture
def work(database: Database, redis_url: str) -> Work:
    """Moves a request as the AWS worker does: claim, then record unless IN_PROGRESS is wanted."""

    def move(correlation_id: str, status: Status) -> None:
        wanted = UUID(correlation_id)
        with (
            psycopg.connect(database.aws, autocommit=True) as conn,
            redis.Redis.from_url(redis_url) as store,
        ):
            lease = _claimed(conn, wanted)
            version = 2
            if status is not Status.IN_PROGRESS:
                end = _end(wanted, lease.token, status)
                version = leases.record(conn, [end], worker="w1")[wanted].version
            StatusCache(store).forget([(wanted, version)])

    return move


def _end(correlation_id: UUID, token: int, status: Any) -> leases.End:
    failed = status is Status.FAILED
    error = {"class": "PERMANENT", "code": "NoSuchEntity", "message": "gone", "retryable": False}
    return leases.End(
        correlation_id=correlation_id,
        token=token,
        status=status,
        result=None if failed else {"attached": True},
        changed=None if failed else True,
        error=error if failed else None,
        wait=None,
        counts_as_retry=False,
        checkpoint=None,
        refs=(Ref(type="request_id", value="r-1", service="iam", operation="AttachUserPolicy"),),
    )


@pytest.fixture
def fragile_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, to be stopped and started as it likes."""
    server = embedded_redis.start(tmp_path / "redis", appendonly=False)
    yield server
    embedded_redis.stop(tmp_path / "redis")


@pytest.fixture
def postgres_away(database: Database) -> Callable[[], AbstractContextManager[None]]:
    """A switch: inside the block nobody can connect to the test's database, and nobody stays."""

    @contextmanager
    def away() -> Iterator[None]:
        base, _, name = database.superuser.rpartition("/")
        with psycopg.connect(f"{base}/postgres", autocommit=True) as conn:
            conn.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            yield
            conn.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")

    return away
