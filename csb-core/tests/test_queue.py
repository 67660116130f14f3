"""The provider's list: its order, its messages, and what a client does when Redis is slow."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import PROVIDER, Tiny

from csb_core import keys
from csb_core.contract import digest_of
from csb_core.errors import MessageUnreadable, QueueUnavailable
from csb_core.ids import made_at, new_id
from csb_core.local import ports
from csb_core.models import Message
from csb_core.queue import Queue, connect, decode, encode
from csb_core.worker import messages as reading

SECOND = timedelta(seconds=1)
MESSAGE = Message(
    correlation_id=UUID("01890000-0000-7000-8000-000000000001"),
    tenant_id=UUID("00000000-0000-4000-8000-000000000002"),
    attempt=0,
    published_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    payload={"cloud_provider": "tiny", "action": "noop"},
)


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with connect(redis_url, timeout=SECOND * 5) as client:
        yield Queue(client, PROVIDER)


# -- the list


def test_first_in_first_out(queue: Queue) -> None:
    queue.publish([b"1", b"2"])
    queue.publish([b"3"])
    queue.publish([])
    assert queue.depth() == 3
    assert queue.wait(0.1) == b"1"
    assert queue.deal(5).messages == [b"2", b"3"]
    assert queue.deal(5).messages == []
    assert queue.depth() == 0


def test_what_is_given_back_is_next_in_turn(queue: Queue) -> None:
    queue.publish([b"1", b"2", b"3", b"4"])
    queue.give_back(queue.deal(2).messages)
    queue.give_back([])
    assert queue.deal(9).messages == [b"1", b"2", b"3", b"4"]


def test_an_empty_list_is_waited_for_and_no_longer_than_said(queue: Queue) -> None:
    began = time.monotonic()
    assert queue.wait(0.3) is None
    assert 0.25 < time.monotonic() - began < 2


def test_a_message_that_comes_while_one_waits_is_had_at_once(queue: Queue, redis_url: str) -> None:
    def publish() -> None:
        time.sleep(0.1)
        with connect(redis_url, timeout=SECOND) as client:
            Queue(client, PROVIDER).publish([b"1"])

    thread = threading.Thread(target=publish)
    thread.start()
    began = time.monotonic()
    assert queue.wait(4) == b"1"
    assert time.monotonic() - began < 2
    thread.join()


def test_lists_of_providers_do_not_mix(queue: Queue) -> None:
    Queue(queue.redis, "other").publish([b"1"])
    assert queue.deal(1).messages == []
    assert queue.oldest() is None


def test_the_oldest_message_tells_since_when_one_waits(queue: Queue) -> None:
    assert queue.oldest() is None
    queue.publish([encode(MESSAGE, "d"), b"newer garbage"])
    assert queue.oldest() == MESSAGE.published_at
    queue.deal(1)
    assert queue.oldest() is None  # unreadable


# -- a slow or absent Redis


def test_a_workers_pop_outlasts_its_own_block(tiny: Tiny) -> None:
    """redis-py would otherwise hang up on a Redis that is just popping for it."""
    worker = tiny.worker(block_seconds=2)
    popping = worker.intake.queue.redis.connection_pool.connection_kwargs
    assert popping["socket_timeout"] > worker.intake.block_seconds
    assert popping["socket_keepalive"] is True
    worker.pool.wait()
    worker.pool.close()


def test_a_redis_that_answers_late_loses_us_nothing(redis_url: str) -> None:
    """The block ends at the server, not at the client, however late the answer comes."""
    with (
        _late(redis_url, 0.4) as late_url,
        connect(late_url, timeout=SECOND * 5) as late,
        connect(redis_url, timeout=SECOND) as direct,
    ):
        Queue(direct, PROVIDER).publish([b"1"])
        assert Queue(late, PROVIDER).wait(0.2) == b"1"


@contextmanager
def _late(url: str, delay: float) -> Iterator[str]:
    """A way to Redis on which every answer takes a while longer."""
    port = int(url.rpartition(":")[2].partition("/")[0])

    def serve() -> None:
        client, _ = listener.accept()
        with closing(client), socket.create_connection((ports.HOST, port)) as server:
            threading.Thread(target=_pass, args=(client, server, 0), daemon=True).start()
            _pass(server, client, delay)

    with socket.create_server((ports.HOST, 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield url.replace(f":{port}/", f":{listener.getsockname()[1]}/")


def _pass(source: socket.socket, sink: socket.socket, delay: float) -> None:
    try:
        while data := source.recv(65_536):
            time.sleep(delay)
            sink.sendall(data)
    except OSError:
        return


def test_no_redis_is_said_in_our_own_words() -> None:
    with connect(f"redis://:secret@127.0.0.1:{ports.free_port()}", timeout=SECOND) as client:
        queue = Queue(client, PROVIDER)
        for ask in (
            lambda: queue.publish([b"1"]),
            lambda: queue.wait(0.1),
            lambda: queue.deal(1),
            queue.sort,
            queue.standing,
            lambda: queue.give_back([b"1"]),
            queue.depth,
            queue.oldest,
            queue.ping,
        ):
            with pytest.raises(QueueUnavailable) as raised:
                ask()
            assert "secret" not in str(raised.value)
            assert "127.0.0.1" not in str(raised.value)
        queue.publish([])  # nothing to say, nobody to say it to


def test_a_key_of_another_kind_is_as_good_as_no_redis(queue: Queue) -> None:
    queue.redis.set(keys.queue(PROVIDER), b"x")
    with pytest.raises(QueueUnavailable):
        queue.wait(0.1)


# -- messages

TIMES = st.datetimes(timezones=st.just(UTC))
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = st.dictionaries(TEXT, JSON, max_size=5)
MESSAGES = st.builds(
    Message,
    correlation_id=st.uuids(),
    tenant_id=st.uuids(),
    attempt=st.integers(0, 2**31 - 1),
    published_at=TIMES,
    traceparent=st.none() | TEXT,
    payload=PAYLOADS,
)


@given(message=MESSAGES)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    raw = encode(message, digest_of(message.payload))
    assert decode(raw) == message
    assert orjson.loads(raw)["digest"] == digest_of(message.payload)


@given(payload=PAYLOADS)
def test_a_payload_keeps_its_digest_on_every_way_that_it_takes(payload: dict[str, Any]) -> None:
    """Row and message are read back from text; a digest that changed would block the request."""
    digest = digest_of(payload)
    assert digest_of(orjson.loads(orjson.dumps(payload))) == digest
    message = Message(**{**_fields(MESSAGE), "payload": payload})
    [ringing], unreadable = reading.read([encode(message, digest)])
    assert unreadable == []
    assert ringing.digest == digest


def test_a_local_time_is_written_in_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    local = Message(**{**_fields(MESSAGE), "published_at": MESSAGE.published_at.astimezone(east)})
    assert encode(local, "d") == encode(MESSAGE, "d")


def _fields(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in Message.__slots__}


WHOLE: dict[str, Any] = orjson.loads(encode(MESSAGE, "d"))
ODD: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, "", "x", "\x00", [], {}, [[]], {"v": 1}, "1e999", "9" * 5000,
    "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00", "9999-12-31T23:59:59-23:59",
    "٣", "01890000-0000-7000-8000-00000000000", "{" * 50,
]  # fmt: skip
MUST: tuple[str, ...] = ("v", "correlation_id", "tenant_id", "attempt", "published_at", "payload")


@pytest.mark.parametrize("name", MUST)
def test_a_message_without_a_field_is_unreadable(name: str) -> None:
    with pytest.raises(MessageUnreadable):
        decode(orjson.dumps({key: value for key, value in WHOLE.items() if key != name}))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
def test_odd_fields_are_unreadable_or_read_as_what_they_are(name: str, value: Any) -> None:
    raw = orjson.dumps({**WHOLE, name: None}).replace(
        b'"%s":null' % name.encode(), b'"%s":%s' % (name.encode(), _json(value))
    )
    try:
        message = decode(raw)
    except MessageUnreadable:
        return
    assert isinstance(message.correlation_id, UUID)
    assert isinstance(message.attempt, int)
    assert isinstance(message.payload, dict)
    assert message.published_at.utcoffset() == timedelta()
    assert message.published_at.timestamp() < 10**12


def _json(value: Any) -> bytes:
    return str(value).encode() if isinstance(value, int) else orjson.dumps(value)


@given(raw=st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_but_unreadable(raw: bytes) -> None:
    for data in (raw, encode(MESSAGE, "d") + raw, encode(MESSAGE, "d")[: len(raw)] + raw):
        try:
            decode(data)
        except MessageUnreadable:
            continue


@given(fields=st.dictionaries(st.sampled_from([*WHOLE, "else"]), JSON))
def test_no_fields_whatever_raise_anything_but_unreadable(fields: dict[str, Any]) -> None:
    raw = orjson.dumps({**WHOLE, **fields})
    ringing, unreadable = reading.read([raw])
    assert len(ringing) + len(unreadable) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"v":1,"payload":' + b'{"a":' * 100_000,
        b'{"v":1e999}',
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"v"',
        b"1",
        b'{"v":1,"v":2}',
        b"x" * 5_000_000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_hostile_bytes_are_unreadable(raw: bytes) -> None:
    with pytest.raises(MessageUnreadable):
        decode(raw)


def test_twins_are_read_once_and_forged_ones_are_kept_apart() -> None:
    honest = encode(MESSAGE, "d")
    forged = encode(Message(**{**_fields(MESSAGE), "payload": {"action": "something worse"}}), "d")
    ringing, unreadable = reading.read([forged, honest, b"garbage", honest, forged])
    assert {one.raw for one in ringing} == {honest, forged}
    assert [raw for raw, _ in unreadable] == [b"garbage"]


# -- names


def test_keys_are_the_documented_ones() -> None:
    request = MESSAGE.correlation_id
    assert keys.queue("aws") == "queue:aws"
    assert keys.tenants_queues("aws") == "queue:aws:of:"
    assert keys.queue_round("aws") == "queue:aws:round"
    assert keys.queue_baton("aws") == "queue:aws:baton"
    assert keys.status(request) == f"cache:status:{request}"
    assert keys.floor(request) == f"cache:floor:{request}"
    assert keys.moved(request) == f"moved:{request}"
    assert keys.limit("key/k/60/1/minute", 7) == "limit:key/k/60/1/minute:7"


def test_tokens_have_their_shape_and_never_repeat() -> None:
    tokens = {keys.new_token() for _ in range(500)}
    assert len(tokens) == 500
    for token in tokens:
        matched = keys.TOKEN.fullmatch(token)
        assert matched is not None
        assert keys.key_id_of(token) == matched["key_id"]
        assert len(keys.token_digest(token)) == 32


@given(text=st.text(max_size=70))
def test_what_is_no_token_has_no_key_id(text: str) -> None:
    assert keys.key_id_of(text) is None
    token = keys.new_token()
    for wrong in (token + "a", "a" + token, token + "\n", token[:-1], token.replace("_", "-")):
        assert keys.key_id_of(wrong) is None


def test_ids_grow_and_tell_when_they_were_made() -> None:
    before = time.time()
    ids = [new_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5000
    assert {one.version for one in ids} == {7}
    assert before - 0.01 <= made_at(ids[0]) <= made_at(ids[-1]) <= time.time() + 0.01
