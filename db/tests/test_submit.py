"""Accepting requests: one call for many tenants, each key once, and no item harms another."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import psycopg
import pytest
from db.tests.world import WORKERS, World, acting, claim, draft

from csb_core import requests
from csb_core.db import Connection, Pool, connection
from csb_core.models import Draft
from csb_core.requests import Accepted
from csb_core.states import Status
from csb_core.testing import Database, make_tenant

PoolOf = Callable[..., Pool]


@pytest.fixture
def api(shared: Database) -> Iterator[Connection]:
    with acting(shared, "csb_api_user") as conn:
        yield conn


@pytest.fixture
def admin(shared: Database) -> Iterator[Connection]:
    with acting(shared, "csb_admin_user") as conn:
        yield conn


def test_items_are_answered_in_their_order_each_for_its_tenant(
    shared: Database, api: Connection
) -> None:
    tenants = [make_tenant(shared.admin) for _ in range(3)]
    drafts = [draft(random.choice(tenants)) for _ in range(30)]
    answers = requests.insert(api, drafts)
    assert [a.correlation_id for a in answers] == [d.correlation_id for d in drafts]
    assert {(a.outcome, a.status, a.version) for a in answers} == {("created", "PENDING", 1)}
    for one in drafts:
        for tenant in tenants:
            shown = requests.get(api, tenant, one.correlation_id)
            assert (shown is not None) == (tenant == one.tenant_id)


def test_the_same_key_brings_the_same_request(shared: Database, api: Connection) -> None:
    first, second = make_tenant(shared.admin), make_tenant(shared.admin)
    one = draft(first, client_request_id="INC-1")
    again = draft(first, client_request_id="INC-1")
    changed = draft(first, client_request_id="INC-1", action="detach_policy")
    elsewhere = draft(second, client_request_id="INC-1")
    [created] = requests.insert(api, [one])

    answers = requests.insert(api, [again, changed, elsewhere, draft(first)])

    assert [a.outcome for a in answers] == ["exists", "conflict", "created", "created"]
    assert answers[0].correlation_id == answers[1].correlation_id == created.correlation_id
    assert answers[2].correlation_id == elsewhere.correlation_id
    for lost in (again, changed):
        assert requests.get(api, first, lost.correlation_id) is None


def test_the_same_key_twice_in_one_call_gives_one_request(tenant: UUID, api: Connection) -> None:
    drafts = [
        draft(tenant, client_request_id="K"),
        draft(tenant, client_request_id="K"),
        draft(tenant, client_request_id="K", action="detach_policy"),
        draft(tenant),
    ]
    answers = requests.insert(api, drafts)
    assert [a.outcome for a in answers] == ["created", "exists", "conflict", "created"]
    assert len({a.correlation_id for a in answers[:3]}) == 1


def test_a_repeated_request_tells_where_the_first_one_stands(
    tenant: UUID, shared: Database, api: Connection
) -> None:
    one = draft(tenant, client_request_id="K")
    requests.insert(api, [one])
    with acting(shared, "csb_aws_user") as conn:
        claim(conn, one)
    [answer] = requests.insert(api, [draft(tenant, client_request_id="K")])
    assert (answer.outcome, answer.status, answer.version) == ("exists", Status.IN_PROGRESS, 2)


def _at_once(pool: Pool, batches: Sequence[Sequence[Draft]]) -> list[list[Accepted]]:
    """Submit every batch from a thread of its own, all at the same moment."""
    answers: list[list[Accepted]] = []
    faults: list[BaseException] = []
    together = threading.Barrier(len(batches))

    def submit(batch: Sequence[Draft]) -> None:
        try:
            with connection(pool) as conn:
                together.wait(20)
                answers.append(requests.insert(conn, batch))
        except Exception as exc:  # noqa: BLE001 - a thread's fault is the test's
            faults.append(exc)

    threads = [threading.Thread(target=submit, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    return answers


def test_twenty_identical_requests_at_once_are_one(
    tenant: UUID, shared: Database, admin: Connection, pool_of: PoolOf
) -> None:
    pool = pool_of(shared.api, 20)
    batches = [[draft(tenant, client_request_id="SAME")] for _ in range(20)]
    answers = [answer for [answer] in _at_once(pool, batches)]
    assert sorted(a.outcome for a in answers) == ["created", *["exists"] * 19]
    assert len({a.correlation_id for a in answers}) == 1
    for table in ("csb_requests", "csb_requests_audit"):
        query = f"SELECT count(*) FROM csb_app.{table} WHERE tenant_id = %s"
        assert admin.execute(query, (tenant,)).fetchone() == (1,)


def test_batches_that_overlap_in_another_order_do_not_lock_each_other_out(
    shared: Database, admin: Connection, pool_of: PoolOf
) -> None:
    tenants = [make_tenant(shared.admin) for _ in range(3)]
    named = [(tenant, f"K-{n}") for tenant in tenants for n in range(20)]
    batches = []
    for _ in range(8):
        random.shuffle(named)
        batches.append([draft(tenant, client_request_id=name) for tenant, name in named])
    answers = [one for batch in _at_once(pool_of(shared.api, 8), batches) for one in batch]
    assert {a.outcome for a in answers} == {"created", "exists"}
    assert len({a.correlation_id for a in answers}) == len(named)
    query = "SELECT count(*) FROM csb_app.csb_requests WHERE tenant_id = ANY (%s)"
    assert admin.execute(query, (tenants,)).fetchone() == (len(named),)


def test_an_account_must_be_registered_active_and_of_the_same_tenant_and_provider(
    shared: Database, api: Connection, admin: Connection
) -> None:
    with_one, without = make_tenant(shared.admin), make_tenant(shared.admin, account_id=None)
    disabled = make_tenant(shared.admin)
    admin.execute(
        "UPDATE csb_app.csb_target_accounts SET status = 'disabled' WHERE tenant_id = %s",
        (disabled,),
    )
    drafts = {
        "fine": draft(with_one),
        "unknown": draft(with_one, account_id="999999999999"),
        "anothers": draft(without),
        "disabled": draft(disabled),
        "anothers provider": draft(with_one, cloud_provider="sandbox"),
        "none asked": draft(without, "sandbox"),
    }
    answers = dict(zip(drafts, requests.insert(api, list(drafts.values())), strict=True))
    created = {name for name, a in answers.items() if a.outcome == "created"}
    assert created == {"fine", "none asked"}
    refused = [a for name, a in answers.items() if name not in created]
    assert {(a.outcome, a.correlation_id) for a in refused} == {("account_not_registered", None)}


def test_an_item_that_is_not_created_harms_no_other(tenant: UUID, api: Connection) -> None:
    requests.insert(api, [draft(tenant, client_request_id="K")])
    drafts = [
        draft(tenant),
        draft(tenant, account_id="999999999999"),
        draft(tenant, client_request_id="K", action="detach_policy"),
        draft(tenant, client_request_id="K"),
        draft(tenant, client_request_id="L"),
    ]
    outcomes = [answer.outcome for answer in requests.insert(api, drafts)]
    assert outcomes == ["created", "account_not_registered", "conflict", "exists", "created"]


def test_an_item_that_breaks_a_constraint_leaves_the_whole_call_unwritten(
    tenant: UUID, api: Connection
) -> None:
    good, bad = draft(tenant), draft(tenant, client_request_id="x" * 201)
    with pytest.raises(psycopg.errors.CheckViolation):
        requests.insert(api, [good, bad])
    assert requests.get(api, tenant, good.correlation_id) is None
    assert requests.insert(api, [good])[0].outcome == "created"  # so each can be tried alone


def test_operators_submit_replays_and_workers_submit_nothing(
    world: World, admin: Connection
) -> None:
    failed = world.of("aws", Status.FAILED)
    [replayed] = requests.insert(admin, [draft(world.ours, replay_of=failed)])
    assert replayed.outcome == "created"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        requests.insert(admin, [draft(world.ours)])
    for role in WORKERS:
        with (
            acting(world.database, role) as conn,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            requests.insert(conn, [draft(world.ours)])
