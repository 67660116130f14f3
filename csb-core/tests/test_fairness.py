"""What a tenant's neighbours notice of its floods: in one worker process, on real servers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from tiny import PROVIDER, Act, Tiny, done, eventually

from csb_core import keys, leases
from csb_core.db import Connection
from csb_core.dealing import tenant_of
from csb_core.models import Lease, Outcome
from csb_core.queue import Queue, decode
from csb_core.states import Status
from csb_core.worker import intake, loop
from csb_core.worker.action import Attempt
from csb_core.worker.main import WorkerProcess
from csb_core.worker.rescuer import HIGH_WATER, Rescuer

#: Of eight slots, what one tenant alone may hold.
PORTION = 6


@dataclass(slots=True)
class Held:
    """An action that ends when it is let go: all of them, or one after the other."""

    running: Counter[UUID] = field(default_factory=Counter)
    most: Counter[UUID] = field(default_factory=Counter)
    begun: int = 0
    ends: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        with self.lock:
            self.begun += 1
            self.running[lease.tenant_id] += 1
            self.most[lease.tenant_id] = max(
                self.most[lease.tenant_id], self.running[lease.tenant_id]
            )
        assert self.ends.acquire(timeout=30)
        with self.lock:
            self.running[lease.tenant_id] -= 1
        return done(lease, attempt)

    def has_begun(self, count: int) -> bool:
        return self.begun == count

    def let_go(self, count: int = 1) -> None:
        self.ends.release(count)


def sleepy(seconds: float) -> Act:
    def act(lease: Lease, attempt: Attempt) -> Outcome:
        time.sleep(seconds)
        return done(lease, attempt)

    return Act(do=act)


# -- a flood


def test_a_single_request_is_not_held_up_by_twenty_thousand_of_another_tenant(tiny: Tiny) -> None:
    quiet = tiny.another_tenant()
    default: dict[str, Any] = {"slots": 40, "block_seconds": 2.0}
    with tiny.working(**default):
        idle = []
        for _ in range(40):
            ids = tiny.submit(tenant=quiet)
            tiny.await_ends(ids)
            idle += ids
    slowest_idle = tiny.times(idle)[-1]

    tiny.backlog(20_000, ago=600)
    with tiny.working(**default):
        eventually(lambda: tiny.depth() < 20_000)
        alone = []
        for _ in range(15):
            ids = tiny.submit(tenant=quiet)
            tiny.await_ends(ids)
            alone += ids
        assert tiny.statuses()["PENDING"] > 1_000, "the flood ended too soon to prove anything"
        taken = tiny.times(alone)
        # Batches of the flood are claimed and recorded beside it, by a processor that is busy.
        assert taken[len(taken) // 2] < max(3 * slowest_idle, 0.3), (idle, taken)
        assert taken[-1] < 2, taken


def test_two_tenants_with_slow_actions_go_on_side_by_side(tiny: Tiny) -> None:
    late = tiny.another_tenant()
    flood = tiny.submit(60, "slow")
    with tiny.working({"slow": sleepy(0.1)}):
        eventually(lambda: tiny.statuses()["SUCCESS"] > 3)
        few = tiny.submit(12, "slow", tenant=late)
        assert tiny.await_ends(few) == {"SUCCESS": 12}
        assert tiny.statuses()["PENDING"] > 15
        assert tiny.await_ends(flood) == {"SUCCESS": 60}


# -- the portion


def test_one_tenant_alone_leaves_slots_for_the_next(tiny: Tiny) -> None:
    held, other = Held(), tiny.another_tenant()
    flood = tiny.submit(20, "held")
    with tiny.working({"held": Act(do=held), "noop": Act(do=done)}, block_seconds=2.0):
        eventually(lambda: held.begun == PORTION)
        time.sleep(0.3)
        assert held.begun == PORTION
        for _ in range(3):
            assert tiny.await_ends(tiny.submit(tenant=other), within=1) == {"SUCCESS": 1}
        held.let_go(20)
        assert tiny.await_ends(flood) == {"SUCCESS": 20}
    assert held.most[tiny.tenant] == PORTION


def test_what_is_on_its_way_to_a_lease_counts_as_well(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = leases.claim

    def slow(*args: Any, **more: Any) -> Any:
        time.sleep(0.4)
        return claim(*args, **more)

    monkeypatch.setattr(leases, "claim", slow)
    held, other = Held(), tiny.another_tenant()
    flood = tiny.submit(20, "held")
    with tiny.working({"held": Act(do=held), "noop": Act(do=done)}, block_seconds=2.0) as worker:
        eventually(lambda: worker.loop.slots.coming().total() == PORTION)
        assert tiny.await_ends(tiny.submit(tenant=other)) == {"SUCCESS": 1}
        assert held.most[tiny.tenant] == PORTION
        held.let_go(20)
        assert tiny.await_ends(flood) == {"SUCCESS": 20}


def test_a_slot_that_is_given_back_is_used_at_once(tiny: Tiny) -> None:
    """While the doorman waits in Redis, where nothing comes."""
    held = Held()
    flood = tiny.submit(20, "held")
    with tiny.working({"held": Act(do=held)}, block_seconds=4.0):
        eventually(lambda: held.begun == PORTION)
        for begun in range(PORTION + 1, PORTION + 6):
            time.sleep(0.15)
            held.let_go()
            eventually(partial(held.has_begun, begun), within=1.5)
        held.let_go(20)
        assert tiny.await_ends(flood) == {"SUCCESS": 20}


def test_floods_of_two_share_what_there_is_and_leave_a_slot(tiny: Tiny) -> None:
    held, second, third = Held(), tiny.another_tenant(), tiny.another_tenant()
    floods = [*tiny.submit(30, "held"), *tiny.submit(30, "held", tenant=second)]
    with tiny.working({"held": Act(do=held), "noop": Act(do=done)}, block_seconds=2.0):
        eventually(lambda: held.begun >= 6)
        time.sleep(0.3)
        assert held.running == {tiny.tenant: 3, second: 3}
        assert tiny.await_ends(tiny.submit(tenant=third), within=1) == {"SUCCESS": 1}
        held.let_go(60)
        assert tiny.await_ends(floods) == {"SUCCESS": 60}


def test_a_portion_of_one_is_no_bound(tiny: Tiny) -> None:
    held = Held()
    flood = tiny.submit(20, "held")
    with tiny.working({"held": Act(do=held)}, tenant_portion=1):
        eventually(lambda: held.begun == 8)
        held.let_go(20)
        assert tiny.await_ends(flood) == {"SUCCESS": 20}


def test_messages_in_another_tenants_name_leave_no_slot_counted(tiny: Tiny) -> None:
    """A forged name decides who waits for whom, and nothing else; in the end all slots are free."""
    other = tiny.another_tenant()
    ids = tiny.submit(40, ring=False)
    tiny.push(
        *(tiny.message(one).replace(str(tiny.tenant).encode(), str(other).encode()) for one in ids),
        *(b"garbage %d" % n for n in range(40)),
        *(tiny.message(one) for one in ids),
    )
    with tiny.working() as worker:
        assert tiny.await_ends(ids) == {"SUCCESS": 40}
        eventually(lambda: tiny.depth() == 0 and not worker.loop.inbox.qsize())
        eventually(lambda: not worker.loop.slots.coming() and not worker.loop.hand.by_tenant())
        assert tiny.await_ends(tiny.submit(30)) == {"SUCCESS": 30}


def test_what_five_hundred_tenants_ask_for_is_done(tiny: Tiny) -> None:
    ids = []
    for _ in range(500):
        ids += tiny.submit(2, tenant=uuid4())
    with tiny.working(), tiny.working():
        assert tiny.await_ends(ids, within=30) == {"SUCCESS": 1000}
    assert tiny.redis.keys("queue:*") == []
    assert {tiny.row(one)["attempt"] for one in ids[:20]} == {1}


# -- the rescuer beside a flood


@pytest.fixture
def rescuer(tiny: Tiny) -> Iterator[Rescuer]:
    """A rescuer that passes when it is told to."""
    worker = tiny.worker()
    worker.pool.wait()
    yield worker.rescuer
    worker.pool.close()


def test_a_lost_worker_is_missed_although_another_tenants_messages_are_older(
    tiny: Tiny, rescuer: Rescuer
) -> None:
    """B's request was rung after A's oldest message that still stands: no reason to wait."""
    other = tiny.another_tenant()
    tiny.backlog(20_000, ago=3600)
    [held] = tiny.submit(tenant=other, ring=False)
    tiny.claim(held)
    tiny.expire(held)
    began = time.monotonic()
    assert [row.correlation_id for row in rescuer.run_once()] == [held]
    assert time.monotonic() - began < 2
    assert tiny.status(held) is Status.PENDING


def test_a_lost_message_is_rung_again_although_another_tenant_has_more_than_enough(
    tiny: Tiny, rescuer: Rescuer
) -> None:
    other = tiny.another_tenant()
    tiny.backlog(HIGH_WATER + 5_000, ago=3600)
    [lost, fresh] = tiny.submit(2, tenant=other, ring=False)
    tiny.age(60, lost)
    assert [row.correlation_id for row in rescuer.run_once()] == [lost]
    assert rescuer.run_once() == []
    assert tiny.status(fresh) is Status.PENDING


def test_what_still_stands_is_not_doubled_whosever_it_is(tiny: Tiny, rescuer: Rescuer) -> None:
    other = tiny.another_tenant()
    tiny.backlog(300, ago=60)
    theirs = tiny.submit(20, tenant=other)
    tiny.age(30, *theirs)
    tiny.redis.delete(keys.queue(PROVIDER))
    tiny.push(*(tiny.message(one) for one in theirs))
    # A's are gone, B's stand: only A's are rung.
    rung = rescuer.run_once()
    assert {row.tenant_id for row in rung} == {tiny.tenant}
    assert len(rung) == 300


def test_after_a_flush_every_tenant_is_rung_in_turn(tiny: Tiny, rescuer: Rescuer) -> None:
    tiny.backlog(5_000, ago=60)
    few = tiny.submit(3, tenant=tiny.another_tenant(), ring=False)
    tiny.age(10, *few)
    tiny.redis.flushall()
    first = rescuer.run_once()
    assert len(first) == 2_000
    assert {row.correlation_id for row in first} >= set(few)


def test_a_forgotten_tenant_is_remembered_by_the_rescuer(tiny: Tiny) -> None:
    """Its list stands, the round does not name it: its rows are rung, and bring it back."""
    ids = tiny.submit(5)
    Queue(tiny.redis, PROVIDER).sort()
    tiny.redis.delete(keys.queue_round(PROVIDER), keys.queue_baton(PROVIDER))
    tiny.age(60)
    with tiny.working():
        assert tiny.await_ends(ids) == {"SUCCESS": 5}
        eventually(lambda: tiny.depth() == 0)


@pytest.mark.parametrize("at", [datetime(9999, 12, 31, tzinfo=UTC), None])
def test_a_message_of_no_honest_time_holds_up_no_rescue(
    tiny: Tiny, rescuer: Rescuer, at: datetime | None
) -> None:
    [held, named] = tiny.submit(2, ring=False)
    message = tiny.message(named)
    stamp = decode(message).published_at.isoformat().encode()
    tiny.push(message.replace(stamp, at.isoformat().encode() if at else b"never"))
    tiny.claim(held)
    tiny.expire(held)
    assert held in [row.correlation_id for row in rescuer.run_once()]


def test_depth_and_age_count_every_list(tiny: Tiny) -> None:
    tiny.backlog(10, ago=100)
    other = tiny.another_tenant()
    tiny.push(*(tiny.message(one) for one in tiny.submit(3, tenant=other, ring=False)))
    worker = tiny.worker()
    worker.pool.wait()
    Queue(tiny.redis, PROVIDER).sort()
    [reading] = worker.read_queues()
    assert (reading.depth, reading.tenants) == (13, 2)
    assert (
        timedelta(seconds=99) < timedelta(seconds=reading.oldest_seconds) < timedelta(seconds=130)
    )
    worker.pool.close()


# -- the pace


def test_a_flood_goes_at_a_pace_while_it_has_company(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LATELY", timedelta(minutes=1))
    claim, sizes = leases.claim, list[int]()

    def noted(conn: Connection, candidates: Any, **more: Any) -> Any:
        sizes.append(len(candidates))
        return claim(conn, candidates, **more)

    monkeypatch.setattr(leases, "claim", noted)
    other = tiny.another_tenant()
    with tiny.working(slots=40):
        tiny.await_ends(tiny.submit(200))
        assert max(sizes) > intake.PACE
        tiny.await_ends([*tiny.submit(), *tiny.submit(tenant=other)])
        sizes.clear()
        tiny.await_ends(tiny.submit(240))
    assert max(sizes) <= intake.PACE


def test_slow_actions_come_to_their_portion_in_company_too(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LATELY", timedelta(minutes=1))
    held = Held()
    other = tiny.another_tenant()
    with tiny.working({"held": Act(do=held)}, slots=40):
        tiny.await_ends([*tiny.submit(), *tiny.submit(tenant=other)])
        flood = tiny.submit(60, "held")
        eventually(lambda: held.has_begun(30))
        held.let_go(60)
        assert tiny.await_ends(flood) == {"SUCCESS": 60}


def test_only_the_last_two_tenants_are_remembered(door: WorkerProcess, tiny: Tiny) -> None:
    """Two are company; of a thousand no more would have to be known, and looked through."""
    for tenant in [uuid4() for _ in range(5)]:
        door.intake.hand_over([tiny.message(tiny.submit(tenant=tenant, ring=False)[0])])
    assert len(door.intake._served) == 2


def test_a_flood_rests_while_another_tenant_comes_alone(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LATELY", timedelta(minutes=1))
    monkeypatch.setattr(loop, "LONGEST_REST", timedelta(milliseconds=300))
    monkeypatch.setattr(loop, "REST", 1e6)
    other = tiny.another_tenant()
    with tiny.working() as worker:
        tiny.await_ends(tiny.submit())
        flood = tiny.submit(60)
        tiny.await_ends(flood)
        assert max(tiny.times(flood)) < 1  # 60 by portions of six are ten turns at least
        assert not worker.intake.has_guest()
        single = tiny.submit(tenant=other)
        tiny.await_ends(single)
        assert worker.intake.has_guest()
        flood = tiny.submit(60)
        tiny.await_ends(flood)
        assert max(tiny.times(flood)) > 2


# -- the door, and the express lane


def test_a_single_request_waits_for_no_batch_of_a_flood(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, record = leases.claim, leases.record

    def slow_claim(conn: Connection, candidates: Any, **more: Any) -> Any:
        time.sleep(0.7 * (len(candidates) > 1))
        return claim(conn, candidates, **more)

    def slow_record(conn: Connection, ends: Any, **more: Any) -> Any:
        time.sleep(0.7 * (len(ends) > 1))
        return record(conn, ends, **more)

    monkeypatch.setattr(leases, "claim", slow_claim)
    monkeypatch.setattr(leases, "record", slow_record)
    other = tiny.another_tenant()
    flood = tiny.submit(60)
    with tiny.working(block_seconds=2.0) as worker:
        eventually(lambda: worker.loop.slots.coming().total() == PORTION)
        single = []
        for _ in range(3):
            single += tiny.submit(tenant=other)
            tiny.await_ends(single)
        assert tiny.times(single)[-1] < 0.6
        assert tiny.await_ends(flood) == {"SUCCESS": 60}


def test_what_the_express_lane_cannot_claim_is_explained_behind_it(tiny: Tiny) -> None:
    [forged] = tiny.submit(ring=False)
    tiny.push(tiny.message(forged).replace(b'"number":0', b'"number":1'))
    with tiny.working() as worker:
        eventually(lambda: tiny.security_events() == {"message_forged": 1})
        eventually(lambda: not worker.loop.slots.coming() and worker.loop.slots.total == 8)
        tiny.push(tiny.message(forged))
        assert tiny.await_ends([forged]) == {"SUCCESS": 1}


def blocked(tiny: Tiny) -> bool:
    """Whether somebody waits in Redis."""
    return bool(tiny.redis.info("clients")["blocked_clients"])


@pytest.fixture
def door(tiny: Tiny) -> Iterator[WorkerProcess]:
    """A worker of which nothing runs but the doorman."""
    worker = tiny.worker(block_seconds=2.0)
    worker.pool.wait()
    doorman = threading.Thread(target=worker.intake.doorman.run)
    doorman.start()
    yield worker
    worker.intake.doorman.dismiss()
    doorman.join(5)
    assert not doorman.is_alive()
    worker.pool.close()


def test_a_message_that_came_before_the_intake_listens_is_heard(
    tiny: Tiny, door: WorkerProcess
) -> None:
    assert door.intake.run_once(8) == []  # in vain: the next time it waits
    door.intake.doorman.send(2.0, baton=True)
    [request] = tiny.submit()
    eventually(lambda: tiny.depth() == 0)
    time.sleep(0.1)
    assert door.loop.slots.take() == 8  # which takes the doorman's call, too
    heard: list[bytes] = []
    listening = threading.Thread(target=lambda: heard.extend(door.intake.run_once(8)), daemon=True)
    listening.start()
    listening.join(2)
    assert [decode(message).correlation_id for message in heard] == [request]


def test_the_next_deal_at_a_pace_comes_when_the_last_has_arrived(
    tiny: Tiny, door: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LATELY", timedelta(minutes=1))
    slots = door.loop.slots

    def deal() -> list[str]:
        free = slots.take()
        assert free is not None
        messages = door.intake.run_once(free)
        door.intake.hand_over(messages)
        slots.give(free - len(messages))
        return [tenant_of(message) for message in messages]

    tiny.submit(20)
    tiny.submit(tenant=tiny.another_tenant())
    company = deal()
    assert len(set(company)) == 2
    slots.arrived(company)
    slots.give(len(company))
    monkeypatch.setattr(intake, "PACE", 3)
    first = deal() or deal()  # what is left was not for it: it waits, then asks anew
    assert len(first) == 3
    monkeypatch.setattr(intake, "LOOK_AGAIN", timedelta(seconds=2))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(deal)
        time.sleep(0.2)
        assert not waiting.done()
        slots.arrived(first)
        assert waiting.result(timeout=1) == []  # it comes back with all slots
    assert len(deal()) == 3


def test_slots_that_came_free_before_the_intake_listens_are_used_at_once(
    tiny: Tiny, door: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was dealt has ended before the rest is taken: nobody will say so again."""
    monkeypatch.setattr(intake, "LOOK_AGAIN", timedelta(seconds=2))
    slots = door.loop.slots
    tiny.submit(20)
    assert slots.take() == slots.total
    dealt = door.intake.run_once(slots.total)
    assert len(dealt) == PORTION
    door.intake.hand_over(dealt)
    slots.arrived(tenant_of(message) for message in dealt)
    slots.give(slots.total)
    assert slots.take() == slots.total
    began = time.monotonic()
    assert len(door.intake.run_once(slots.total)) == PORTION
    assert time.monotonic() - began < 1


def test_a_message_for_which_there_is_no_slot_is_left_to_others(
    tiny: Tiny, door: WorkerProcess
) -> None:
    slots = door.loop.slots
    assert slots.take() == slots.total
    door.intake.doorman.send(2.0, baton=True)
    [request] = tiny.submit()
    assert slots.take() == 0
    assert door.intake.run_once(0) == []
    assert tiny.redis.exists(keys.queue_baton(PROVIDER))
    assert [decode(message).correlation_id for message in tiny.pop(1)] == [request]


def test_what_still_comes_to_the_door_of_a_worker_that_leaves_goes_back(
    tiny: Tiny, door: WorkerProcess
) -> None:
    taking = threading.Thread(target=door.intake.run)
    taking.start()
    eventually(partial(blocked, tiny))
    door.loop.slots.end()
    time.sleep(0.2)
    assert taking.is_alive()
    [request] = tiny.submit()
    taking.join(5)
    assert not taking.is_alive()
    assert [decode(message).correlation_id for message in tiny.pop(1)] == [request]


def test_slots_that_are_closed_are_given_back_by_who_listens(
    tiny: Tiny, door: WorkerProcess
) -> None:
    taking = threading.Thread(target=door.intake.run)
    taking.start()
    slots = door.loop.slots
    eventually(partial(blocked, tiny))
    assert slots.busy == slots.total
    slots.close("a test")
    eventually(lambda: slots.busy == 0, within=1)
    slots.end()
    taking.join(5)
    assert not taking.is_alive()
    assert tiny.standing() == []
