"""One replay at a time: whoever asks, by whichever door, and however many at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest
from db.tests.world import acting, cancel, claim, draft, end_of, submit

from csb_core import leases, oversight, requests
from csb_core.db import Connection
from csb_core.errors import NotFound
from csb_core.models import Draft
from csb_core.oversight import Narrowing
from csb_core.states import Status
from csb_core.testing import Database, make_tenant

RIVALS = 6


@pytest.fixture
def api(shared: Database) -> Iterator[Connection]:
    with acting(shared, "csb_api_user") as conn:
        yield conn


@pytest.fixture
def admin(shared: Database) -> Iterator[Connection]:
    with acting(shared, "csb_admin_user") as conn:
        yield conn


@pytest.fixture
def failed(waiting: Draft, worker: Connection) -> Draft:
    """A request of this test that has FAILED."""
    return _end(worker, waiting, Status.FAILED)


def _end(worker: Connection, one: Draft, status: Status) -> Draft:
    leases.record(worker, [end_of(claim(worker, one), status)], worker="w")
    return one


def _again(failed: Draft, key: str | None = None) -> Draft:
    return draft(failed.tenant_id, replay_of=failed.correlation_id, client_request_id=key)


def _outcomes(conn: Connection, drafts: Sequence[Draft]) -> list[str]:
    return [answer.outcome for answer in requests.insert(conn, drafts)]


def test_the_second_replay_is_told_of_the_first(
    failed: Draft, api: Connection, admin: Connection, worker: Connection
) -> None:
    first = _again(failed)
    assert _outcomes(api, [first]) == ["created"]
    for conn in (api, admin):
        [second] = requests.insert(conn, [_again(failed)])
        assert (second.outcome, second.correlation_id) == ("replayed", first.correlation_id)
        assert (second.status, second.version) == (Status.PENDING, 1)

    _end(worker, first, Status.FAILED)
    [third] = requests.insert(api, [_again(failed)])
    assert (third.outcome, third.status) == ("replayed", Status.FAILED)
    assert _outcomes(api, [_again(first)]) == ["created"]  # this is how it goes on


def test_a_cancelled_replay_leaves_room_for_another(
    failed: Draft, api: Connection, admin: Connection
) -> None:
    first = _again(failed)
    assert _outcomes(admin, [first]) == ["created"]
    cancel(api, first)
    assert oversight.find_failure(admin, failed.correlation_id).account_id is not None
    assert _outcomes(admin, [_again(failed)]) == ["created"]
    assert _outcomes(api, [_again(failed)]) == ["replayed"]
    with pytest.raises(NotFound):
        oversight.find_failure(admin, failed.correlation_id)
    narrowing = Narrowing(tenant_id=failed.tenant_id)
    assert oversight.find_failures(admin, narrowing, limit=9) == []


def test_a_repetition_under_the_same_key_is_answered_with_the_same_replay(
    failed: Draft, shared: Database, api: Connection, worker: Connection
) -> None:
    first = _again(failed, "again-1")
    assert _outcomes(api, [first]) == ["created"]
    [repeated] = requests.insert(api, [_again(failed, "again-1")])
    assert (repeated.outcome, repeated.correlation_id) == ("exists", first.correlation_id)
    assert _outcomes(api, [_again(failed, "again-2")]) == ["replayed"]

    # The same words about another request are no repetition.
    other = draft(failed.tenant_id)
    submit(shared, other)
    assert _outcomes(api, [_again(_end(worker, other, Status.FAILED), "again-1")]) == ["conflict"]


def test_two_replays_in_one_call_give_one_and_harm_no_neighbour(
    failed: Draft, api: Connection
) -> None:
    drafts = [_again(failed), _again(failed), draft(failed.tenant_id)]
    outcomes = _outcomes(api, drafts)
    assert sorted(outcomes[:2]) == ["created", "replayed"]
    assert outcomes[2] == "created"


def test_rivals_make_one_replay(failed: Draft, shared: Database) -> None:
    together = threading.Barrier(RIVALS)

    def ask(number: int) -> str:
        role = ("csb_api_user", "csb_admin_user")[number % 2]
        with acting(shared, role) as conn:
            together.wait()
            return _outcomes(conn, [_again(failed)])[0]

    with ThreadPoolExecutor(RIVALS) as pool:
        outcomes = list(pool.map(ask, range(RIVALS)))
    assert sorted(outcomes) == ["created"] + ["replayed"] * (RIVALS - 1)


def test_a_rival_waits_for_the_commit_that_is_on_its_way(failed: Draft, shared: Database) -> None:
    """It asks while the first has written and not committed; it must not write as well."""
    with (
        acting(shared, "csb_admin_user", autocommit=False) as slow,
        acting(shared, "csb_api_user") as quick,
        ThreadPoolExecutor(1) as pool,
    ):
        assert _outcomes(slow, [_again(failed)]) == ["created"]
        asked = pool.submit(_outcomes, quick, [_again(failed)])
        with acting(shared, "superuser") as watching:
            while not watching.execute(
                "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'",
                (quick.info.backend_pid,),
            ).fetchall():
                assert not asked.done()
        slow.commit()
        assert asked.result() == ["replayed"]


def test_no_door_leads_past_it_and_no_tenant_is_seen_through_it(
    failed: Draft, shared: Database, api: Connection
) -> None:
    insert = """
        INSERT INTO csb_app.csb_requests
               (correlation_id, tenant_id, cloud_provider, action, payload, digest, requested_by,
                moved_by, request_id, replay_of)
        SELECT gen_random_uuid(), %s, 'aws', 'attach_policy', '{}', 'd', 'k', 'k', 'r', %s
    """
    stranger = make_tenant(shared.admin)
    assert _outcomes(api, [_again(failed)]) == ["created"]
    rows = {
        tenant_id: _as(api, tenant_id, insert, failed.correlation_id)
        for tenant_id in (failed.tenant_id, stranger)
    }
    assert rows == {failed.tenant_id: 0, stranger: 1}


def _as(conn: psycopg.Connection, tenant_id: UUID, statement: str, replay_of: UUID) -> int:
    with conn.transaction():
        conn.execute("SELECT set_config('csb.tenant_id', %s, true)", (str(tenant_id),))
        return conn.execute(statement.encode(), (tenant_id, replay_of)).rowcount
