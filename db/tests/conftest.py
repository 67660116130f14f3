"""Databases with something in them, and the ways to reach them."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from db.tests import pgbouncer as bouncers
from db.tests.pgbouncer import PgBouncer
from db.tests.world import World, acting, draft, make_world, submit
from psycopg import sql

from csb_core.db import Connection, Pool, open_pool
from csb_core.local.postgres import PostgresServer
from csb_core.models import Draft
from csb_core.testing import Database, database, database_urls, make_tenant, postgres, template

__all__ = ["database", "postgres", "template"]

#: How a client reaches a database: it is given the direct URL and returns the one to use.
Way = Callable[[str], str]


#: A fresh database that is dropped when the block ends.
Clone = Callable[[], AbstractContextManager[Database]]


@pytest.fixture(scope="session")
def clone(postgres: PostgresServer, template: str) -> Clone:
    """Databases that live longer or shorter than one test."""

    @contextmanager
    def make() -> Iterator[Database]:
        name = f"csb_{secrets.token_hex(6)}"
        with psycopg.connect(postgres.url, autocommit=True) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
            conn.execute(
                sql.SQL("GRANT CREATE ON DATABASE {} TO csb_owner").format(sql.Identifier(name))
            )
            yield database_urls(postgres.url, name)
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    return make


@pytest.fixture(scope="session")
def shared(clone: Clone) -> Iterator[Database]:
    """One database for many tests: they undo what they do, or bring a tenant of their own."""
    with clone() as database:
        yield database


@pytest.fixture(scope="session")
def world(shared: Database) -> World:
    """Two tenants with something of everything."""
    return make_world(shared)


@pytest.fixture
def tenant(shared: Database) -> UUID:
    """A tenant of this test alone."""
    return make_tenant(shared.admin)


@pytest.fixture
def waiting(shared: Database, tenant: UUID) -> Draft:
    """A request of this test, accepted."""
    one = draft(tenant)
    submit(shared, one)
    return one


@pytest.fixture
def worker(shared: Database) -> Iterator[Connection]:
    """A connection as csb_aws_user."""
    with acting(shared, "csb_aws_user") as conn:
        yield conn


@pytest.fixture
def sandbox(shared: Database) -> Iterator[Connection]:
    """A connection as csb_sandbox_user."""
    with acting(shared, "csb_sandbox_user") as conn:
        yield conn


@pytest.fixture(scope="session")
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode; CSB_REQUIRE_PGBOUNCER=1 makes its absence a failure."""
    program = bouncers.find_program()
    if program is None:
        if os.environ.get("CSB_REQUIRE_PGBOUNCER") == "1":
            pytest.fail("pgbouncer is not installed, and CSB_REQUIRE_PGBOUNCER=1 asks for it")
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    with (
        tempfile.TemporaryDirectory(prefix="csb-pgb-") as folder,
        bouncers.running(program, Path(folder), server=postgres.port) as bouncer,
    ):
        yield bouncer


@pytest.fixture(params=["direct", pytest.param("pgbouncer", marks=pytest.mark.slow)])
def way(request: pytest.FixtureRequest) -> Way:
    """Straight to PostgreSQL, or through PgBouncer in transaction mode."""
    if request.param == "direct":
        return str
    bouncer: PgBouncer = request.getfixturevalue("pgbouncer")
    return bouncer.through


@pytest.fixture
def pool_of(way: Way) -> Iterator[Callable[..., Pool]]:
    """Open a pool to a URL, by the way in question; one connection unless told otherwise."""
    with ExitStack() as stack:

        def make(url: str, most: int = 1) -> Pool:
            pool = open_pool(
                way(url),
                name="test",
                least=1,
                most=most,
                timeout=timedelta(seconds=10),
                prepare=way is str,
            )
            stack.callback(pool.close)
            return pool

        yield make
