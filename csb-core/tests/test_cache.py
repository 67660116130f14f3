"""The cache of statuses: never another tenant's, never older than what was shown before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from interleavings import NEXT, Habit, Search, Violation

from csb_core import cache as caching
from csb_core import keys, queue
from csb_core.cache import (
    FINAL_TTL,
    FLOOR_TTL,
    LARGEST,
    OPEN_TTL,
    Filled,
    Hit,
    StatusCache,
    compose,
    parse,
)
from csb_core.errors import CacheUnavailable
from csb_core.ids import new_id
from csb_core.local import ports
from csb_core.states import FINAL, Status

DOCUMENT = b'{"status":"PENDING"}'


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with queue.connect(redis_url, timeout=timedelta(seconds=2)) as client:
        yield client


@pytest.fixture
def cache(client: redis.Redis) -> StatusCache:
    return StatusCache(client)


def fill(cache: StatusCache, tenant: UUID, request: UUID, version: int, **more: object) -> Filled:
    """Read, as one does after a miss."""
    floor = cache.prepare(request)
    options = {"status": Status.PENDING, "document": DOCUMENT, "floor": floor, **more}
    return cache.fill(tenant, request, version=version, **options)  # type: ignore[arg-type]


# -- the search


@pytest.fixture
def known_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs are random, so that they never come back; the search names them itself."""
    monkeypatch.setattr(caching, "token_hex", lambda _: NEXT.decode())


@pytest.mark.usefixtures("known_epochs")
@pytest.mark.parametrize("large", [(), (3,)])
def test_no_order_of_events_lets_a_status_go_backwards(
    client: redis.Redis, large: tuple[int, ...]
) -> None:
    search = Search(redis=client, large=frozenset(large))
    assert search.run(readers=2, answers=2, moves=2) > 15_000


@pytest.mark.slow
@pytest.mark.usefixtures("known_epochs")
@pytest.mark.parametrize("large", [(), (2,), (3,)])
def test_no_order_of_many_events_lets_a_status_go_backwards(
    client: redis.Redis, large: tuple[int, ...]
) -> None:
    search = Search(redis=client, large=frozenset(large))
    assert search.run(readers=3, answers=2, moves=1) > 40_000
    assert search.run(readers=2, answers=3, moves=2) > 40_000


STALE_CHECK = "if epoch and tonumber(ARGV[1]) < tonumber(lowest) then return 'stale' end"
EPOCH_CHECK = "epoch == ARGV[5] and"
RAISE_BY_FILL = "redis.call('SET', KEYS[2], (epoch or ARGV[6]) .. ':' .. ARGV[1], 'EX', ARGV[4])"
RAISE_BY_FORGET = "redis.call('SET', KEYS[2 * i], epoch .. ':' .. version, 'EX', ARGV[1])"


@pytest.mark.usefixtures("known_epochs")
@pytest.mark.parametrize(
    ("script", "line", "instead"),
    [
        ("FILL", STALE_CHECK, ""),
        ("FILL", EPOCH_CHECK, ""),
        ("FILL", RAISE_BY_FILL, ""),
        ("FILL", "redis.call('DEL', KEYS[1])", ""),
        ("FORGET", RAISE_BY_FORGET, ""),
        ("FORGET", "redis.call('DEL', KEYS[2 * i - 1])", ""),
    ],
)
def test_the_search_finds_it_when_a_line_of_a_script_is_missing(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, script: str, line: str, instead: str
) -> None:
    whole = getattr(caching, script)
    assert whole.count(line) == 1
    monkeypatch.setattr(caching, script, whole.replace(line, instead))
    search = Search(redis=client, large=frozenset({3}))
    with pytest.raises(Violation):
        search.run(readers=2, answers=2, moves=2)


@pytest.mark.usefixtures("known_epochs")
@pytest.mark.parametrize("habit", ["prepares late", "answers first"])
def test_the_search_finds_it_when_a_reader_takes_its_steps_in_another_order(
    client: redis.Redis, habit: Habit
) -> None:
    with pytest.raises(Violation):
        Search(redis=client, habit=habit, loses=False).run(readers=2, answers=2, moves=2)


@pytest.mark.usefixtures("known_epochs")
def test_the_search_would_not_blame_the_innocent(client: redis.Redis) -> None:
    """One reader alone goes right whatever is missing; so what is found above is the race."""
    assert Search(redis=client, loses=False).run(readers=1, answers=2, moves=2) > 20


# -- one key at a time


def test_what_was_filled_is_read_back_byte_for_byte(cache: StatusCache) -> None:
    tenant, request = uuid4(), new_id()
    assert cache.read(tenant, request) is None
    assert fill(cache, tenant, request, 3) is Filled.FILLED
    assert cache.read(tenant, request) == Hit(3, DOCUMENT)


def test_another_tenants_status_is_not_there(cache: StatusCache) -> None:
    tenant, request = uuid4(), new_id()
    fill(cache, tenant, request, 3)
    assert cache.read(uuid4(), request) is None
    assert cache.read_many([(uuid4(), request), (tenant, request), (tenant, new_id())]) == [
        None,
        Hit(3, DOCUMENT),
        None,
    ]


def test_statuses_expire_soon_while_open_and_floors_outlive_reads(
    cache: StatusCache, client: redis.Redis
) -> None:
    for status in Status:
        tenant, request = uuid4(), new_id()
        fill(cache, tenant, request, 3, status=status)
        longest = FINAL_TTL if status in FINAL else OPEN_TTL
        ttl = client.pttl(keys.status(request)) / 1000
        assert longest.total_seconds() * 0.6 < ttl <= longest.total_seconds()
        floor = client.pttl(keys.floor(request)) / 1000
        assert FLOOR_TTL.total_seconds() - 5 < floor <= FLOOR_TTL.total_seconds()


def test_a_floor_is_kept_for_whoever_prepares_late_in_its_life(
    cache: StatusCache, client: redis.Redis
) -> None:
    request = new_id()
    first = cache.prepare(request)
    client.pexpire(keys.floor(request), 500)
    assert cache.prepare(request) == first
    assert client.pttl(keys.floor(request)) > 60_000


def test_a_document_that_is_too_large_is_not_cached_and_drops_an_older_one(
    cache: StatusCache,
) -> None:
    tenant, request = uuid4(), new_id()
    assert (
        fill(cache, tenant, request, 2, document=b"{%s}" % (b"x" * (LARGEST - 2))) is Filled.FILLED
    )
    slow = cache.prepare(request)
    assert fill(cache, tenant, request, 3, document=b"{%s}" % (b"x" * (LARGEST - 1))) is Filled.GONE
    assert cache.read(tenant, request) is None
    late = cache.fill(
        tenant, request, floor=slow, version=2, status=Status.PENDING, document=DOCUMENT
    )
    assert late is Filled.STALE


def test_without_room_nothing_is_cached_and_moves_are_still_told(client: redis.Redis) -> None:
    full = StatusCache(client, budget_bytes=1)
    tenant, request = uuid4(), new_id()
    assert fill(full, tenant, request, 2) is Filled.GONE
    assert full.read(tenant, request) is None
    with client.pubsub(ignore_subscribe_messages=True) as heard:  # type: ignore[no-untyped-call]
        heard.subscribe(keys.moved(request))
        heard.get_message(timeout=1)
        full.forget([(request, 3)])
        assert heard.get_message(timeout=1)["data"] == b"3"


def test_the_budget_is_looked_at_again_and_again(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = StatusCache(client, budget_bytes=1)
    tenant, request = uuid4(), new_id()
    fill(cache, tenant, request, 2)
    cache.budget_bytes = 2**40
    assert fill(cache, tenant, request, 2) is Filled.GONE  # looked at a moment ago
    monkeypatch.setattr(cache, "_looked", cache._looked - 60)
    assert fill(cache, tenant, request, 2) is Filled.FILLED


def test_moves_are_told_of_all_at_once_and_leave_no_key_that_nobody_needs(
    cache: StatusCache, client: redis.Redis
) -> None:
    """A floor for each finished request would fill Redis for two minutes' worth of work."""
    tenant, requests = uuid4(), [new_id() for _ in range(250)]
    for request in requests[::50]:
        fill(cache, tenant, request, 2)
    cache.forget([(request, 3) for request in requests])
    assert [cache.read(tenant, request) for request in requests] == [None] * 250
    assert client.dbsize() == 5  # the floors of those that somebody reads
    assert fill(cache, tenant, requests[0], 2) is Filled.STALE
    assert fill(cache, tenant, requests[0], 3) is Filled.FILLED
    cache.forget([])


def test_word_of_an_older_move_lowers_no_floor(cache: StatusCache) -> None:
    tenant, request = uuid4(), new_id()
    fill(cache, tenant, request, 2)
    cache.forget([(request, 5)])
    cache.forget([(request, 3)])
    assert fill(cache, tenant, request, 4) is Filled.STALE
    assert fill(cache, tenant, request, 5) is Filled.FILLED


def test_a_full_redis_still_lets_go_of_what_has_moved(
    cache: StatusCache, client: redis.Redis
) -> None:
    """`maxmemory` reached: nothing can be set any more, yet the old status must not stay."""
    tenant, request = uuid4(), new_id()
    fill(cache, tenant, request, 2)
    before = str(client.config_get("maxmemory")["maxmemory"])
    client.config_set("maxmemory", 1)
    try:
        cache.forget([(request, 3)])
        assert cache.read(tenant, request) is None
        with pytest.raises(CacheUnavailable):
            fill(cache, tenant, request, 3)
    finally:
        client.config_set("maxmemory", before)


def test_scripts_survive_a_redis_that_has_forgotten_them(
    cache: StatusCache, client: redis.Redis
) -> None:
    tenant, request = uuid4(), new_id()
    fill(cache, tenant, request, 2)
    client.script_flush()
    client.flushall()
    assert fill(cache, tenant, request, 2) is Filled.FILLED
    client.script_flush()
    cache.forget([(request, 3)])
    assert cache.read(tenant, request) is None


def test_no_redis_is_said_in_our_own_words() -> None:
    nobody = queue.connect(f"redis://127.0.0.1:{ports.free_port()}", timeout=timedelta(seconds=0.5))
    cache, tenant, request = StatusCache(nobody), uuid4(), new_id()
    for ask in (
        lambda: cache.read(tenant, request),
        lambda: cache.read_many([(tenant, request)]),
        lambda: cache.prepare(request),
        lambda: cache.forget([(request, 3)]),
        lambda: cache.fill(
            tenant, request, floor=b"1", version=1, status=Status.PENDING, document=DOCUMENT
        ),
    ):
        with pytest.raises(CacheUnavailable) as raised:
            ask()
        assert "127.0.0.1" not in str(raised.value)


# -- what somebody else put there

TENANT = UUID("00000000-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"null",
        compose(TENANT, 3, DOCUMENT)[:-1],
        compose(TENANT, 3, DOCUMENT)[:60],
        compose(TENANT, 3, DOCUMENT).replace(b":3,", b":-3,"),
        compose(TENANT, 3, DOCUMENT).replace(b":3,", b":3.5,"),
        compose(TENANT, 3, DOCUMENT).replace(b":3,", b":,"),
        compose(TENANT, 3, DOCUMENT).replace(b":3,", b":" + b"9" * 5000 + b","),
        compose(TENANT, 3, DOCUMENT).replace(b'"document"', b'"dokument"'),
        b" " + compose(TENANT, 3, DOCUMENT),
        compose(UUID(int=2), 3, compose(TENANT, 3, DOCUMENT)),
    ],
)
def test_a_tampered_value_is_no_hit(cache: StatusCache, client: redis.Redis, value: bytes) -> None:
    request = new_id()
    client.set(keys.status(request), value)
    assert cache.read(TENANT, request) is None


@pytest.mark.parametrize(
    "floor", [b"", b"x", b"1", b":1", b"g:1", b"1:", b"1:-1", b"1:1:1", b"1:1x"]
)
def test_a_tampered_floor_is_none(cache: StatusCache, client: redis.Redis, floor: bytes) -> None:
    tenant, request = uuid4(), new_id()
    client.set(keys.floor(request), floor)
    cache.forget([(request, 2)])
    assert fill(cache, tenant, request, 2) is Filled.FILLED


def test_keys_of_another_kind_are_as_good_as_no_redis(
    cache: StatusCache, client: redis.Redis
) -> None:
    request = new_id()
    client.lpush(keys.status(request), b"x")
    client.lpush(keys.floor(request), b"x")
    for ask in (lambda: cache.read(TENANT, request), lambda: cache.prepare(request)):
        with pytest.raises(CacheUnavailable):
            ask()


@given(value=st.binary(max_size=200))
def test_no_value_whatever_makes_parsing_fail(value: bytes) -> None:
    head = compose(TENANT, 3, b"")[:70]
    for text in (value, head + value, head[: len(value)] + value):
        hit = parse(text, TENANT)
        assert hit is None or isinstance(hit.version, int)


@given(version=st.integers(1, 2**31 - 1), content=st.binary(max_size=100))
def test_what_is_composed_is_parsed(version: int, content: bytes) -> None:
    document = b"{%s}" % content
    assert parse(compose(TENANT, version, document), TENANT) == Hit(version, document)
    assert parse(compose(TENANT, version, document), UUID(int=7)) is None
