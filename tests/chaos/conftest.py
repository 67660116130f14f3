"""One platform in real processes for most tests; those that need another one build it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import psycopg
import pytest
from psycopg import sql
from tests.chaos.platform import BRISK, Platform, build

from csb_core.local.postgres import PostgresServer
from csb_core.testing import database_urls, postgres, template

__all__ = ["postgres", "template"]

Make = Callable[..., Platform]


@pytest.fixture(scope="session")
def new_platform(
    postgres: PostgresServer, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Platform]]:
    """Build platforms without services, each with a database and a Redis of its own."""
    made: list[Platform] = []
    names = (f"chaos_{number}" for number in count())

    def make(*, users: int = 0) -> Platform:
        name = next(names)
        with psycopg.connect(postgres.url, autocommit=True) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        folder = tmp_path_factory.mktemp(name)
        made.append(build(folder, postgres, database_urls(postgres.url, name), users=users))
        return made[-1]

    yield make
    for platform in made:
        platform.end()


@pytest.fixture(scope="session")
def standing(new_platform: Make) -> Platform:
    """The platform with the AWS worker, in two processes each, with short times."""
    platform = new_platform(users=1200)
    platform.add_api(processes=2)
    platform.add_worker(CSB_PROCESSES="2", CSB_SLOTS="8", **BRISK)
    platform.await_ready()
    return platform


@pytest.fixture
def platform(standing: Platform) -> Iterator[Platform]:
    """The standing platform, with no order left from the test before."""
    standing.orders.clear()
    standing.aws("DELETE", "faults")
    standing.await_ready()
    yield standing
    standing.orders.clear()
