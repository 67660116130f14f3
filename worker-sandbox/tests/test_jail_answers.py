"""The one frame that comes out of a jail is read as an enemy's."""

from __future__ import annotations

import contextlib
import time

import pytest

from worker_sandbox import answers
from worker_sandbox.answers import Unreadable
from worker_sandbox.jail import frames
from worker_sandbox.prints import TAIL, Prints

FAULT = b'"error":{"type":"E","message":"m","traceback":null}'


def ok(value: bytes) -> bytes:
    return b'{"reason":"ok","value":' + value + b"}"


@pytest.mark.parametrize(
    "value",
    [
        b"null",
        b'"\\u001f"',
        b'"\\\\ud800"',
        b'"\\\\u0000"',
        b'"[[[[{{{{"',
        b"[" * 100 + b"]" * 100,
        b"1" * 4000,
        b"-0.5e-300",
        b'"' + b"x" * (frames.MAX_VALUE - 2) + b'"',
        b'["\\\\\\"[","\\\\",' + b"[]," * 101 + b'"]"]',
    ],
)
def test_honest_answers_are_read(value: bytes) -> None:
    assert answers.read(ok(value)).reason == "ok"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"reason":"ok"}',
        b'{"reason":"ok","value":1,"cpu_ms":0}',
        b'{"reason":"internal","value":1}',
        b'{"reason":"timeout",' + FAULT + b"}",
        b'{"reason":["ok"],"value":1}',
        b'{"reason":"error"}',
        b'{"reason":"error","error":{"type":"E","message":"m"}}',
        b'{"reason":"error","error":{"type":"E","message":null,"traceback":null}}',
        b'{"reason":"error","error":{"type":"E","message":"m","traceback":null,"code":1}}',
        b'{"reason":"error","error":{"type":"' + b"x" * 201 + b'","message":"","traceback":null}}',
        ok(b"NaN"),
        ok(b"Infinity"),
        ok(b"1e999"),
        ok(b"1" * 5000),
        ok(b'"\\ud800"'),
        ok(b'"\\u0000"'),
        ok(b'{"\\u0000":1}'),
        ok(b"[" * 101 + b"]" * 101),
        ok(b'{"a":' * 101 + b"1" + b"}" * 101),
        ok(b"[" * 500_000),
        ok(b'"\\"[' * 3 + b"[" * 200),
        ok(b'"' + b"x" * frames.MAX_RESULT + b'"'),
        ok(b'"' + b"x" * (frames.MAX_VALUE - 1) + b'"'),
        ok(b"[" + b"1e15," * 100_000 + b"1]"),  # written again it is two megabytes
        ok(b"1") + ok(b"2"),
        ok(b"1") + b"\0",
    ],
)
def test_everything_else_is_unreadable_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(Unreadable):
        answers.read(body)


@pytest.mark.parametrize("value", [b'{"a":1,"a":2}', b'[{"1":{"a":1,"b":2,"a":2}}]'])
def test_keys_that_are_one_as_texts_are_an_error_of_the_code(value: bytes) -> None:
    answer = answers.read(ok(value))
    assert (answer.reason, answer.value) == ("error", None)
    assert answer.error is not None
    assert answer.error["type"] == "NotJson"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * frames.MAX_VALUE,
        b'"' * frames.MAX_VALUE,
        b'"\\' * (frames.MAX_VALUE // 2),
        b"[{" * (frames.MAX_VALUE // 2),
        ok(b"[" + b"[]," * 300_000 + b"[]]"),
        ok(b"[" + b"{}," * 300_000 + b"{}]"),
        # Many brackets, and a string of quotes that never ends: it is not begun again at each.
        b"[" * 200 + b'"' + b'\\"' * (frames.MAX_VALUE // 2),
        b"[" * 200 + b'"\\' * (frames.MAX_VALUE // 2),
    ],
)
def test_no_frame_takes_long_to_judge(body: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(Unreadable):
        answers.read(body)
    assert time.process_time() - began < 2


def test_prints_keep_their_end_and_no_more() -> None:
    prints = Prints()
    for n in range(100_000):
        prints.add(b"%d\n" % n)
        assert len(prints._kept) <= 2 * TAIL + 16
    text = prints.text()

    assert text.endswith("99998\n99999\n")
    assert text.startswith("[... ")
    assert len(text.encode()) <= TAIL
    cut = int(text.split()[1])
    assert cut + len(text.split("\n", 1)[1]) == prints.total


@pytest.mark.parametrize("data", [b"\xff" * TAIL, b"\0" * TAIL, "é".encode() * TAIL])
def test_prints_stay_within_the_tail_whatever_becomes_of_their_bytes(data: bytes) -> None:
    prints = Prints()
    prints.add(data)

    assert len(prints.text().encode()) <= TAIL
    assert "\0" not in prints.text()
    assert prints.text().startswith("[... ")


def test_short_prints_are_whole() -> None:
    prints = Prints()
    prints.add(b"x" * TAIL)

    assert prints.text() == "x" * TAIL
