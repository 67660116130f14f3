"""The deal: messages sorted by tenant and dealt in turn, on a real Redis and against a model."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import PROVIDER

from csb_core import dealing, keys
from csb_core import queue as queueing
from csb_core.dealing import NOBODY, tenant_of
from csb_core.ids import new_id
from csb_core.models import Message
from csb_core.queue import Queue, connect, decode, encode

SECOND: Final = timedelta(seconds=1)
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (UUID(f"00000000-0000-4000-8000-00000000000{n}") for n in range(1, 4))


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with connect(redis_url, timeout=SECOND * 5) as client:
        yield Queue(client, PROVIDER)


def message(tenant: UUID, number: int = 0, *, padding: str = "") -> bytes:
    """A message of this tenant, published so many seconds after the epoch."""
    fields = Message(
        correlation_id=new_id(),
        tenant_id=tenant,
        attempt=0,
        published_at=EPOCH + number * SECOND,
        traceparent=None,
        payload={"number": number, "padding": padding},
    )
    return encode(fields, "d")


def of(tenant: UUID, count: int) -> list[bytes]:
    return [message(tenant, number) for number in range(count)]


def told(messages: Sequence[bytes]) -> str:
    """Whose they are and which, like `1:0 2:0 1:1`."""
    found = (decode(raw) for raw in messages)
    return " ".join(f"{one.tenant_id.int & 0xF}:{one.payload['number']}" for one in found)


def listed(queue: Queue, tenant: UUID | str) -> list[bytes]:
    """A tenant's list, the oldest first."""
    name = f"{keys.tenants_queues(PROVIDER)}{tenant}"
    return cast("list[bytes]", queue.redis.lrange(name, 0, -1))[::-1]


def in_round(queue: Queue) -> list[str]:
    names = cast("list[bytes]", queue.redis.zrange(keys.queue_round(PROVIDER), 0, -1))
    return [name.decode() for name in names]


# -- turns


def test_tenants_take_turns_and_each_has_its_own_in_order(queue: Queue) -> None:
    queue.publish([*of(A, 5), *of(B, 2), *of(C, 1)])
    assert told(queue.deal(4).messages) == "1:0 2:0 3:0 1:1"
    assert told(queue.deal(2).messages) == "2:1 1:2"
    assert told(queue.deal(9).messages) == "1:3 1:4"
    assert queue.deal(9) == queueing.Dealt(messages=[], left=False)


def test_who_stands_behind_twenty_thousand_of_another_is_dealt_first_of_all(queue: Queue) -> None:
    flood = of(A, 20_000)
    for start in range(0, 20_000, 2_000):
        queue.publish(flood[start : start + 2_000])
    queue.publish(of(B, 1))
    began = time.monotonic()
    assert told(queue.deal(2).messages) == "1:0 2:0"
    assert time.monotonic() - began < 2
    assert queue.depth() == 19_999


def test_five_hundred_tenants_are_served_before_any_is_served_again(queue: Queue) -> None:
    tenants = [uuid4() for _ in range(500)]
    for tenant in tenants:
        queue.publish(of(tenant, 4))
    dealt: list[bytes] = []
    while found := queue.deal(64).messages:
        dealt += found
    for start in range(0, 2_000, 500):
        turn = [decode(raw) for raw in dealt[start : start + 500]]
        assert {one.tenant_id for one in turn} == set(tenants)
        assert {one.payload["number"] for one in turn} == {start // 500}


def test_a_newcomer_waits_for_one_turn_and_no_longer(queue: Queue) -> None:
    queue.publish([*of(A, 50), *of(B, 50)])
    queue.deal(10)
    queue.publish(of(C, 1))
    assert told(queue.deal(3).messages).endswith("3:0")


def test_a_popped_message_keeps_its_place(queue: Queue) -> None:
    queue.publish(of(A, 3))
    popped = queue.wait(0.1)
    assert told(queue.deal(9, popped=popped).messages) == "1:0 1:1 1:2"


def test_what_is_given_back_comes_next_and_in_order(queue: Queue) -> None:
    queue.publish([*of(A, 3), *of(B, 3)])
    taken = queue.deal(4).messages
    assert told(taken) == "1:0 2:0 1:1 2:1"
    queue.give_back(taken)
    assert told(queue.deal(9).messages) == "1:0 2:0 1:1 2:1 1:2 2:2"


def test_lists_of_providers_do_not_mix(queue: Queue) -> None:
    Queue(queue.redis, "other").publish(of(A, 1))
    assert queue.deal(1).messages == []
    assert queue.standing().backlogs == []


# -- portions


@pytest.mark.parametrize(
    ("slots", "portion", "most"),
    [(64, 0.75, 48), (8, 0.75, 6), (4, 0.5, 2), (3, 0.75, 2), (2, 0.75, 1), (1, 0.1, 1), (8, 1, 8)],
)
def test_alone_a_tenant_comes_to_its_portion_and_to_one_at_least(
    queue: Queue, slots: int, portion: float, most: int
) -> None:
    queue.publish(of(A, 100))
    first = queue.deal(slots, portion=portion)
    assert len(first.messages) == most
    assert first.left
    again = queue.deal(slots - most, portion=portion, held={str(A): most})
    assert again.messages == []


def test_floods_of_several_leave_a_slot_for_the_next(queue: Queue) -> None:
    floods = [uuid4() for _ in range(5)]
    for tenant in floods:
        queue.publish(of(tenant, 100))
    held = Counter(str(decode(raw).tenant_id) for raw in queue.deal(64, portion=0.75).messages)
    assert set(held.values()) == {12}  # 3 times the four that stay free
    queue.publish(of(A, 50))
    free = 64 - held.total()
    newcomer = queue.deal(free, portion=0.75, held=held).messages
    assert {decode(raw).tenant_id for raw in newcomer} == {A}
    assert 0 < len(newcomer) < free


def test_the_last_slot_goes_to_whoever_holds_none(queue: Queue) -> None:
    queue.publish([*of(A, 3), *of(B, 3)])
    assert told(queue.deal(1, portion=0.75, held={str(A): 63}).messages) == "2:0"


def test_who_was_passed_over_keeps_its_turn(queue: Queue) -> None:
    queue.publish([*of(A, 9), *of(B, 9)])
    full = {str(A): 48}
    assert told(queue.deal(3, portion=0.75, held=full).messages) == "2:0 2:1"
    assert told(queue.deal(1).messages) == "1:0"


def test_a_crowd_of_full_tenants_hides_nobody(queue: Queue) -> None:
    crowd = {str(uuid4()): 9 for _ in range(100)}
    for tenant in crowd:
        queue.publish(of(UUID(tenant), 2))
    queue.publish(of(B, 1))
    assert told(queue.deal(1, portion=0.75, held=crowd).messages) == "2:0"


def test_few_messages_of_a_tenant_are_on_their_way_at_a_time(queue: Queue) -> None:
    queue.publish([*of(A, 9), *of(B, 2)])
    assert told(queue.deal(9, pace=3).messages) == "1:0 2:0 1:1 2:1 1:2"
    on_way = {str(A): 3}
    assert queue.deal(9, held=on_way, pace=3, coming=on_way) == queueing.Dealt(
        messages=[], left=True
    )
    queue.publish(of(B, 1))
    assert told(queue.deal(9, held=on_way, pace=3, coming=on_way).messages) == "2:0"
    # What is held as a lease is not on its way.
    assert told(queue.deal(9, held=on_way, pace=3, coming={str(A): 1}).messages) == "1:3 1:4"


# -- what is not ours


GARBAGE: Final = (b"garbage", b"{}", b'{"v":1}', b"\x00\xff", b'{"v":1,"correlation_id":"x"')


def test_what_cannot_be_read_is_dealt_in_its_turn(queue: Queue) -> None:
    queue.publish([*GARBAGE, *of(A, 2)])
    dealt = queue.deal(9).messages
    assert [raw for raw in dealt if raw in GARBAGE] == list(GARBAGE)
    assert told([raw for raw in dealt if raw not in GARBAGE]) == "1:0 1:1"
    assert dealt.index(GARBAGE[1]) > 1  # one a turn, as everybody


ODD_IDS: Final = [str(A).replace("0", "B"), str(A)[:-1], f"{A}0", "-" * 36, A.hex, "", f"{A}\n"]


@pytest.mark.parametrize("tenant", ODD_IDS)
def test_no_odd_tenant_gets_a_list(queue: Queue, tenant: str) -> None:
    raw = message(A).replace(str(A).encode(), tenant.encode())
    queue.publish([raw])
    queue.sort()
    assert in_round(queue) == [NOBODY] == [tenant_of(raw)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 140), byte=st.integers(0, 255), cut=st.integers(0, 160))
def test_both_read_the_tenant_alike(queue: Queue, at: int, byte: int, cut: int) -> None:
    whole = message(A)
    changed = whole[:at] + bytes([byte]) + whole[at + 1 :]
    queue.redis.flushall()
    for raw in (changed, whole[cut:], whole[: cut + 1]):
        queue.publish([raw])
        queue.sort()
        assert in_round(queue) == [tenant_of(raw)]
        assert queue.deal(1).messages == [raw]


# -- what is bounded


def test_one_run_moves_no_more_than_it_may(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "MOST_SORTS", 1)
    queue.publish(of(A, dealing.MOST_SORTED + 300))
    assert queue.deal(5) == queueing.Dealt(messages=[], left=True)
    assert queue.standing().unsorted == 300
    assert len(queue.deal(5).messages) == 5


def test_large_messages_are_moved_few_at_a_time(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "MOST_SORTS", 1)
    queue.publish([message(A, n, padding="x" * 1_000_000) for n in range(30)])
    assert queue.deal(5).messages == []
    assert 10 <= queue.standing().unsorted < 30
    while queue.standing().unsorted:
        queue.sort()
    assert len(queue.deal(30).messages) == 30


# -- what was lost


def test_a_tenant_that_fell_out_of_the_round_comes_back_with_its_next_message(
    queue: Queue,
) -> None:
    queue.publish(of(A, 3))
    queue.sort()
    queue.redis.delete(keys.queue_round(PROVIDER), keys.queue_baton(PROVIDER))
    assert queue.deal(9).messages == []
    queue.publish([message(A, 7)])
    assert told(queue.deal(9).messages) == "1:0 1:1 1:2 1:7"


def test_a_lost_list_leaves_no_trace_in_the_round(queue: Queue) -> None:
    queue.publish([*of(A, 3), *of(B, 3)])
    queue.sort()
    queue.redis.delete(f"{keys.tenants_queues(PROVIDER)}{A}")
    assert told(queue.deal(2).messages) == "2:0 2:1"
    assert in_round(queue) == [str(B)]


def test_a_round_that_lists_a_tenant_twice_cannot_be(queue: Queue) -> None:
    for _ in range(5):
        queue.publish(of(A, 2))
        queue.sort()
        queue.give_back(queue.deal(1).messages)
    assert in_round(queue) == [str(A)]
    assert len(listed(queue, A)) == 10


def test_nothing_stays_behind_of_what_was_dealt(queue: Queue) -> None:
    queue.publish([*of(A, 5), *of(B, 5), b"garbage"])
    queue.deal(99)
    assert queue.redis.keys() == []


# -- waking


def test_who_waits_is_woken_by_what_others_leave(queue: Queue, redis_url: str) -> None:
    taken = of(A, 2)
    woken: list[float] = []

    def wait() -> None:
        with connect(redis_url, timeout=SECOND * 9) as client:
            assert Queue(client, PROVIDER).wait(5) is None
            woken.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    began = time.monotonic()
    queue.give_back(taken)
    thread.join()
    assert woken[0] - began < 1


def test_who_knows_that_nothing_is_for_him_sleeps_on_until_something_comes(queue: Queue) -> None:
    queue.publish(of(A, 9))
    queue.deal(1)
    assert queue.redis.exists(keys.queue_baton(PROVIDER))
    began = time.monotonic()
    assert queue.wait(0.3, baton=False) is None
    assert time.monotonic() - began > 0.25
    [late] = of(B, 1)
    queue.publish([late])
    assert queue.wait(5, baton=False) == late
    assert time.monotonic() - began < 2


def test_the_baton_is_one_and_is_there_while_messages_are(queue: Queue) -> None:
    name = keys.queue_baton(PROVIDER)
    for _ in range(3):
        queue.publish(of(A, 2))
        queue.deal(1)
        assert queue.redis.llen(name) == 1
    queue.deal(9)
    assert queue.redis.llen(name) == 0


# -- what stands


def test_what_stands_is_told_by_tenant(queue: Queue) -> None:
    queue.publish([message(A, 3), message(A, 4), message(B, 9), b"garbage"])
    queue.sort()
    queue.publish([message(B, 20)])
    standing = queue.standing()
    assert (standing.depth, standing.unsorted) == (5, 1)
    assert standing.oldest_unsorted == EPOCH + 20 * SECOND
    assert standing.oldest == EPOCH + 3 * SECOND
    assert {b.tenant: (b.depth, b.oldest) for b in standing.backlogs} == {
        str(A): (2, EPOCH + 3 * SECOND),
        str(B): (1, EPOCH + 9 * SECOND),
        NOBODY: (1, None),
    }


@pytest.mark.parametrize("at", ["yesterday", "2026-01-01", "2026-01-01T00:00:00+01:00", "9" * 99])
def test_an_odd_time_is_none(queue: Queue, at: str) -> None:
    stamp = (EPOCH + 5 * SECOND).isoformat().encode()
    queue.publish([message(A, 5).replace(stamp, at.encode())])
    assert queue.standing().oldest_unsorted is None
    queue.sort()
    assert queue.oldest() is None


# -- many at once


@pytest.mark.parametrize("popping", [False, True])
def test_many_dealers_deal_each_message_once_and_each_tenants_in_order(
    redis_url: str, *, popping: bool
) -> None:
    """Only a message that one pops while others are sorted may come a few places later."""
    tenants = [uuid4() for _ in range(40)]
    dealt: list[list[bytes]] = [[] for _ in range(6)]
    publishing = threading.Event()
    publishing.set()

    def work(mine: list[bytes]) -> None:
        with connect(redis_url, timeout=SECOND * 9) as client:
            queue, idle = Queue(client, PROVIDER), False
            while publishing.is_set() or not idle:
                popped = queue.wait(0.05) if idle and popping else None
                found = queue.deal(7, popped=popped).messages
                idle = not found
                mine += found

    threads = [threading.Thread(target=work, args=(mine,)) for mine in dealt]
    for thread in threads:
        thread.start()
    with connect(redis_url, timeout=SECOND * 9) as client:
        for number in range(100):
            Queue(client, PROVIDER).publish([message(tenant, number) for tenant in tenants])
    publishing.clear()
    for thread in threads:
        thread.join()

    assert sum(map(len, dealt)) == 4_000
    assert len({raw for mine in dealt for raw in mine}) == 4_000
    for mine in dealt:
        for tenant in tenants:
            numbers = [
                one.payload["number"] for one in map(decode, mine) if one.tenant_id == tenant
            ]
            assert popping or numbers == sorted(numbers)


# -- a model


@dataclass(slots=True)
class Model:
    """What the scripts must do, in words of Python."""

    unsorted: deque[bytes] = field(default_factory=deque)
    lists: dict[str, deque[bytes]] = field(default_factory=dict)
    #: Tenants that have messages, the next in turn first.
    round: list[str] = field(default_factory=list)

    def sort(self) -> None:
        while self.unsorted:
            raw = self.unsorted.popleft()
            self.lists.setdefault(tenant_of(raw), deque()).append(raw)
            if tenant_of(raw) not in self.round:
                self.round.append(tenant_of(raw))

    def deal(self, free: int, portion: float, held: Counter[str]) -> list[bytes]:
        self.sort()
        dealt: list[bytes] = []
        held = Counter(held)
        progress = True
        while free and progress:
            progress = False
            for tenant in list(self.round):
                has = held[tenant]
                fits = portion == 1 or (has + 1) <= portion / (1 - portion) * (free - 1)
                if free and self.lists[tenant] and (has == 0 or fits):
                    dealt.append(self.lists[tenant].popleft())
                    held[tenant] += 1
                    free -= 1
                    progress = True
        served = sorted({tenant_of(raw): n for n, raw in enumerate(dealt)}.items(), key=_second)
        for tenant, _ in served:
            self.round.remove(tenant)
            if self.lists[tenant]:
                self.round.append(tenant)
        return dealt

    def give_back(self, messages: Sequence[bytes]) -> None:
        for raw in reversed(messages):
            tenant = tenant_of(raw)
            self.lists.setdefault(tenant, deque()).appendleft(raw)
            if tenant in self.round:
                self.round.remove(tenant)
            self.round.insert(0, tenant)


def _second(pair: tuple[str, int]) -> int:
    return pair[1]


TENANTS: Final = st.sampled_from([A, B, C, None])
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(TENANTS, min_size=1, max_size=30)),
        st.tuples(
            st.just("deal"),
            st.integers(1, 12),
            st.sampled_from([0.5, 0.75, 1]),
            st.dictionaries(st.sampled_from([str(A), str(B), NOBODY]), st.integers(1, 9)),
        ),
        st.tuples(st.just("wait and deal"), st.integers(1, 12)),
        st.tuples(st.just("sort")),
        st.tuples(st.just("give back"), st.integers(0, 8)),
    ),
    max_size=25,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_the_scripts_do_as_the_model_does(queue: Queue, steps: list[Any]) -> None:
    queue.redis.flushall()
    model = Model()
    hand: list[bytes] = []
    for step in steps:
        match step:
            case ("publish", tenants):
                new = [message(t) if t else b"garbage %d" % new_id().int for t in tenants]
                queue.publish(new)
                model.unsorted.extend(new)
            case ("deal", free, portion, held):
                dealt = queue.deal(free, portion=portion, held=held).messages
                assert dealt == model.deal(free, portion, Counter(held))
                hand = dealt
            case ("wait and deal", free):
                popped = queue.wait(0.01)
                assert popped == (model.unsorted[0] if model.unsorted else None)
                hand = queue.deal(free, popped=popped).messages
                assert hand == model.deal(free, 1, Counter())
            case ("sort",):
                queue.sort()
                model.sort()
            case ("give back", count):
                queue.give_back(hand[:count])
                model.give_back(hand[:count])
                hand = []
        _agree(queue, model)


def _agree(queue: Queue, model: Model) -> None:
    assert in_round(queue) == model.round
    for tenant, expected in model.lists.items():
        assert listed(queue, tenant) == list(expected)
    standing = queue.standing()
    assert standing.unsorted == len(model.unsorted)
    assert standing.depth == len(model.unsorted) + sum(map(len, model.lists.values()))
