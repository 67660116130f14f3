"""Databases with something in them, and the ways to reach them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from db.tests.world import World, make_world
from psycopg import sql

from csb_core.local.postgres import PostgresServer
from csb_core.testing import Database, database, database_urls, postgres, template

__all__ = ["database", "postgres", "template"]


@pytest.fixture(scope="session")
def shared(postgres: PostgresServer, template: str) -> Iterator[Database]:
    """One database for many tests: they undo what they do, or bring a tenant of their own."""
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


@pytest.fixture(scope="session")
def world(shared: Database) -> World:
    """Two tenants with something of everything."""
    return make_world(shared)
