"""The servers and databases that these tests run against, and the line of a provider of their own.

`tiny.py` beside this file is imported by tests, and by the worker processes that they start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import hypothesis
import pytest

from csb_core.local import postgres as embedded_postgres
from csb_core.testing import (
    Database,
    cloned,
    database,
    postgres,
    redis_server,
    redis_url,
    template,
)
from csb_core.worker import loop

sys.path.insert(0, str(Path(__file__).parent))

from tiny import Tiny, emptied

# How long an example takes says more about the machine than about us.
hypothesis.settings.register_profile("csb-core", deadline=None)
hypothesis.settings.load_profile("csb-core")

__all__ = ["database", "postgres", "redis_server", "redis_url", "template"]


@pytest.fixture(scope="session")
def tiny_database(postgres: embedded_postgres.PostgresServer, template: str) -> Iterator[Database]:
    """One database for all tests of the line: to empty it is quicker than to make another."""
    with cloned(postgres.url, template) as urls:
        yield urls


@pytest.fixture
def tiny(
    tiny_database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tiny]:
    """The line of the provider `tiny`, empty; its workers look around more often than others."""
    monkeypatch.setattr(loop, "TURN", timedelta(milliseconds=50))
    emptied(tiny_database)
    line = Tiny(database=tiny_database, redis_url=redis_url)
    yield line
    line.close()
