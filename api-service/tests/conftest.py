"""An API over a real PostgreSQL and a real Redis, called as a client calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from csb_core.config import ApiSettings, load
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
from flask import Flask
from flask.testing import FlaskClient

from api_service.app import create_app, deps_of

__all__ = ["database", "postgres", "redis_server", "redis_url", "template"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant with a key that may do everything."""

    tenant_id: UUID
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What its calls carry."""
        return {"X-Auth-Token": self.token}


@pytest.fixture
def settings(database: Database, redis_url: str) -> ApiSettings:
    """Settings for this test's database and Redis, with limits out of the way."""
    return load(
        ApiSettings,
        database_url=database.api,
        redis_url=redis_url,
        rate_limit_tenant="100000/minute",
        rate_limit_key="100000/minute",
        pool_timeout_seconds=1,
    )


@pytest.fixture
def make_app() -> Iterator[Callable[[ApiSettings], Flask]]:
    """A factory of apps that are closed when the test ends."""
    made: list[Flask] = []

    def make(settings: ApiSettings) -> Flask:
        made.append(create_app(settings))
        return made[-1]

    yield make
    for app in made:
        deps_of(app).close()


@pytest.fixture
def app(make_app: Callable[[ApiSettings], Flask], settings: ApiSettings) -> Flask:
    """The API."""
    return make_app(settings)


@pytest.fixture
def tenant(database: Database) -> Tenant:
    """A tenant with a registered account."""
    return new_tenant(database)


@pytest.fixture
def other(database: Database) -> Tenant:
    """Another tenant, with the same account registered."""
    return new_tenant(database)


@pytest.fixture
def client(app: Flask, tenant: Tenant) -> FlaskClient:
    """A client of the tenant."""
    return client_of(app, tenant)


def new_tenant(database: Database, *scopes: str) -> Tenant:
    """A tenant, and a key with these scopes or with all."""
    tenant_id = make_tenant(database.admin)
    return Tenant(tenant_id=tenant_id, token=make_api_key(database.admin, tenant_id, *scopes))


def client_of(app: Flask, tenant: Tenant) -> FlaskClient:
    """A client that sends the tenant's key with every call."""
    client = app.test_client()
    client.environ_base["HTTP_X_AUTH_TOKEN"] = tenant.token
    return client
