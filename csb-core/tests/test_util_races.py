"""Two who change the same util at once: each change whole, none lost, no version twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from csb_core import util_status, util_store, util_versions
from csb_core.errors import BridgeError, Conflict, NotFound, RevisionMismatch
from csb_core.testing import Database, as_tenant, make_tenant, make_util
from csb_core.util_models import About, Content

TOGETHER = 8
Work = Callable[[psycopg.Connection[Any], int], object]


@pytest.fixture
def tenant(database: Database) -> UUID:
    return make_tenant(database.admin)


def _content(code: str) -> Content:
    return Content(
        code=code,
        parameters={},
        execution_config={},
        validation={"is_valid": True, "validation_errors": [], "security_score": 80},
    )


def _at_once(database: Database, tenant: UUID, work: Work) -> list[BaseException | None]:
    """Do the work in many transactions that all begin before the first one goes on."""
    ended: list[BaseException | None] = []
    barrier = threading.Barrier(TOGETHER)

    def one(number: int) -> None:
        try:
            with as_tenant(database.api, tenant) as conn:
                barrier.wait(20)
                work(conn, number)
        except (BridgeError, psycopg.Error) as exc:
            ended.append(exc)
        else:
            ended.append(None)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(TOGETHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def test_versions_that_are_added_at_once_follow_each_other(
    database: Database, tenant: UUID
) -> None:
    util_id = make_util(database.api, tenant)

    def add(conn: psycopg.Connection[Any], number: int) -> None:
        if number % 2:
            util_versions.rollback(conn, util_id, 1, by="k")
        else:
            util = util_store.seen(conn, util_id)
            util_store.update(conn, util, content=_content(f"# {number}"), by="k")

    assert _at_once(database, tenant, add) == [None] * TOGETHER
    with as_tenant(database.api, tenant) as conn:
        util = util_store.seen(conn, util_id)
        versions = [one.version for one in util_versions.list_of(conn, util_id)]
    assert versions == list(range(TOGETHER + 1, 0, -1))
    assert (util.version, util.active_version) == (TOGETHER + 1, TOGETHER + 1)
    assert util.revision == TOGETHER + 1


def test_of_many_who_read_the_same_revision_one_changes_it(
    database: Database, tenant: UUID
) -> None:
    util_id = make_util(database.api, tenant)

    def change(conn: psycopg.Connection[Any], number: int) -> None:
        util_store.describe(conn, util_id, About(name=f"name-{number}"), by="k", expected=1)

    ended = _at_once(database, tenant, change)
    assert sum(one is None for one in ended) == 1
    assert all(one is None or isinstance(one, RevisionMismatch) for one in ended)


def test_of_many_utils_of_one_name_one_is_made(database: Database, tenant: UUID) -> None:
    def create(conn: psycopg.Connection[Any], number: int) -> None:
        content = _content(f"# {number}")
        util_store.create(conn, About(name="one"), content, kind="script", by="k")

    ended = _at_once(database, tenant, create)
    assert sum(one is None for one in ended) == 1
    assert all(one is None or isinstance(one, Conflict) for one in ended)


def test_a_util_that_is_deleted_meanwhile_takes_no_change(database: Database, tenant: UUID) -> None:
    util_id = make_util(database.api, tenant)

    def end(conn: psycopg.Connection[Any], number: int) -> None:
        if number % 2:
            util_status.delete(conn, util_id, by="k")
        else:
            util_status.deactivate(conn, util_id, by="k")

    ended = _at_once(database, tenant, end)
    assert {type(one) for one in ended} <= {type(None), NotFound}
    with as_tenant(database.api, tenant) as conn:
        assert util_store.get(conn, util_id) is None
