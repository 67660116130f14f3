"""Persisting in groups: one bad draft fails alone, a lost acknowledgement is found out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis

from api_service.bell import Bell
from api_service.circuit import Circuit
from api_service.errors import OutcomeUnknown
from api_service.submitter import Submitter
from csb_core import db, keys, requests
from csb_core.db import Pool
from csb_core.errors import StoreRejected, StoreUnavailable
from csb_core.queue import Queue
from csb_core.requests import Accepted
from csb_core.testing import Database, make_draft, make_tenant


@pytest.fixture
def pool(database: Database) -> Iterator[Pool]:
    """A pool of the API's role."""
    pool = db.open_pool(database.api, name="test", least=2, most=4, timeout=timedelta(seconds=1))
    yield pool
    pool.close()


@pytest.fixture
def submitter(pool: Pool, redis_url: str) -> Iterator[Submitter]:
    """A submitter over them."""
    with redis.Redis.from_url(redis_url) as store:
        yield Submitter(pool, Bell({"aws": Queue(store, "aws")}, Circuit()))


def test_drafts_of_many_tenants_share_a_commit(submitter: Submitter, database: Database) -> None:
    tenants = [make_tenant(database.admin) for _ in range(3)]
    drafts = [make_draft(tenant) for tenant in tenants for _ in range(5)]

    answers = submitter.submit(drafts)

    assert all(isinstance(answer, Accepted) for answer in answers)
    with psycopg.connect(database.superuser) as conn:
        rows = conn.execute(
            "SELECT tenant_id, count(*) FROM csb_app.csb_requests GROUP BY 1"
        ).fetchall()
        transactions = conn.execute(
            "SELECT count(DISTINCT xmin::text) FROM csb_app.csb_requests"
        ).fetchone()
    assert set(rows) == {(tenant, 5) for tenant in tenants}
    assert transactions == (1,)


def test_one_bad_draft_fails_alone(
    submitter: Submitter, database: Database, redis_url: str
) -> None:
    tenant = make_tenant(database.admin)
    good, bad = make_draft(tenant), make_draft(tenant)
    bad = replace(bad, client_request_id="x" * 500)  # more than the column takes

    answers = submitter.submit([good, bad, make_draft(tenant)])

    assert isinstance(answers[0], Accepted)
    assert isinstance(answers[1], StoreRejected)
    assert isinstance(answers[2], Accepted)
    with redis.Redis.from_url(redis_url) as store:
        assert store.llen(keys.queue("aws")) == 2


def test_fifty_identical_posts_are_one_request(submitter: Submitter, database: Database) -> None:
    tenant = make_tenant(database.admin)
    drafts = [
        make_draft(tenant, payload=make_draft(tenant).payload, client_request_id="INC-1")
        for _ in range(50)
    ]
    with ThreadPoolExecutor(50) as pool:
        answers = [a for [a] in pool.map(lambda draft: submitter.submit([draft]), drafts)]

    assert len({a.correlation_id for a in answers if isinstance(a, Accepted)}) == 1
    assert (
        sorted(a.outcome for a in answers if isinstance(a, Accepted))
        == ["created"] + ["exists"] * 49
    )


@pytest.mark.parametrize("key", [None, "INC-1"])
def test_lost_acknowledgement_is_found_out(
    submitter: Submitter,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    key: str | None,
) -> None:
    """The commit happens, and the connection is lost before its answer comes."""
    drafts = [make_draft(make_tenant(database.admin), client_request_id=key) for _ in range(2)]
    insert, lost = requests.insert, list[Any]()

    def lose_the_answer(conn: Any, drafts: Any) -> Any:
        answers = insert(conn, drafts)
        if not lost:
            lost.append(answers)
            conn.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return answers

    monkeypatch.setattr(requests, "insert", lose_the_answer)
    answers = submitter.submit(drafts)

    assert [a.outcome for a in answers if isinstance(a, Accepted)] == ["created", "created"]
    with psycopg.connect(database.superuser) as conn:
        assert conn.execute("SELECT count(*) FROM csb_app.csb_requests").fetchone() == (2,)
    with redis.Redis.from_url(redis_url) as store:
        assert store.llen(keys.queue("aws")) == 2


def test_commit_that_comes_through_late_is_found_out(
    submitter: Submitter, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit is still on its way when we look for its row, and there when we write."""
    draft = make_draft(make_tenant(database.admin))
    insert, tries = requests.insert, list[int]()

    def be_late(conn: Any, drafts: Any) -> Any:
        tries.append(len(drafts))
        if len(tries) == 1:
            raise psycopg.OperationalError("could not receive data from server")
        with psycopg.connect(database.api, autocommit=True) as other:
            insert(other, drafts)
        return insert(conn, drafts)

    monkeypatch.setattr(requests, "insert", be_late)
    [answer] = submitter.submit([draft])

    assert isinstance(answer, Accepted)
    assert (answer.outcome, answer.correlation_id) == ("created", draft.correlation_id)


def test_commit_that_never_happened_is_made(
    submitter: Submitter, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = make_draft(make_tenant(database.admin))
    insert, lost = requests.insert, list[Any]()

    def fail_once(conn: Any, drafts: Any) -> Any:
        if not lost:
            lost.append(drafts)
            raise psycopg.OperationalError("could not receive data from server")
        return insert(conn, drafts)

    monkeypatch.setattr(requests, "insert", fail_once)
    [answer] = submitter.submit([draft])

    assert isinstance(answer, Accepted)
    assert answer.correlation_id == draft.correlation_id


def test_unknown_outcome_names_the_id(
    submitter: Submitter,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    postgres_away: Callable[[], AbstractContextManager[None]],
) -> None:
    draft = make_draft(make_tenant(database.admin))
    insert = requests.insert
    with postgres_away() as _:
        pass
    submitter.submit([make_draft(draft.tenant_id)])  # the pool has connections again

    def go_away(conn: Any, drafts: Any) -> Any:
        away.__enter__()
        return insert(conn, drafts)

    away = postgres_away()
    monkeypatch.setattr(requests, "insert", go_away)
    [answer] = submitter.submit([draft])
    away.__exit__(None, None, None)

    assert isinstance(answer, OutcomeUnknown)
    assert answer.correlation_id == str(draft.correlation_id)


def test_nothing_is_sent_to_a_database_that_is_away(
    submitter: Submitter,
    database: Database,
    postgres_away: Callable[[], AbstractContextManager[None]],
) -> None:
    tenant = make_tenant(database.admin)
    submitter.submit([make_draft(tenant)])
    with postgres_away():
        submitter.submit([make_draft(tenant)])  # finds that the connections are dead
        [answer] = submitter.submit([make_draft(tenant)])

    assert isinstance(answer, StoreUnavailable)
    assert not isinstance(answer, OutcomeUnknown)
