"""Bodies as bytes: what is read comes back from PostgreSQL as it went in; the rest is refused."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csb_core import body
from csb_core.faults import Invalid, Malformed, TooDeep
from csb_core.testing import make_payload

LARGEST = 2**53 - 1
STORABLE_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
STORABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | st.floats(-1e15, 1e15, allow_nan=False)
    | STORABLE_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(STORABLE_TEXT, inner),
    max_leaves=20,
)


@given(value=STORABLE, ascii_only=st.booleans())
def test_json_is_read_as_it_was_written(*, value: Any, ascii_only: bool) -> None:
    assert body.parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(Malformed, TooDeep, Invalid):
        body.parse(data)


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"{", b"{]", b"nul", b"'x'", b"{a:1}", b"[1,]", b"\xff", b"\xef\xbb\xbf{}", b"1 2"],
)
def test_what_is_no_json_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"not JSON|not UTF-8"):
        body.parse(data)


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * levels + closing * levels


def test_depth_ends_at_64() -> None:
    body.parse(nested(64))
    body.parse(b'{"a":' * 63 + b"[]" + b"}" * 63)
    body.parse(b'["' + nested(500) + b'"]')
    body.parse(b'["\\"' + nested(500) + b'\\\\", ' + nested(63) + b"]")
    for deep in (nested(65), b'{"a":' * 64 + b"[]" + b"}" * 64, nested(3000)):
        with pytest.raises(TooDeep):
            body.parse(deep)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 150_000,
        b"[" * 1_000_000,
        nested(90_000),
        b"[[]," * 100_000,
        b'{"a":' * 100_000,
        b'"' + b"[{" * 500_000,
        b"[" * 65 + b'"' + b'\\"' * 500_000,
        b"[" + b"[]," * 199_000 + b"1]",
        b"9" * 1_000_000,
        b"1e" + b"9" * 1_000_000,
        b"[" + b"-1e999," * 10_000 + b"1]",
    ],
)
def test_hostile_bodies_are_answered_quickly(data: bytes) -> None:
    began = time.process_time()
    with suppress(Malformed, TooDeep, Invalid):
        body.parse(data)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("data", "pointers"),
    [
        (b'{"a": NaN, "b": [Infinity, -Infinity]}', ["/a", "/b/0", "/b/1"]),
        (b'{"a": {"b": 1, "b": 2}}', ["/a/b"]),
        (b'{"a": 1, "\\u0061": 1}', ["/a"]),
        (b"[9007199254740992, -9007199254740992]", ["/0", "/1"]),
        (b"[1e16, 1e400, -1e400, 123456789012345678901234567890]", ["/0", "/1", "/2", "/3"]),
        (b'["\\u0000", "a\\u0000b"]', ["/0", "/1"]),
        (b'["\\ud800", "\\udc00x", "\\ud800\\ud800"]', ["/0", "/1", "/2"]),
        (b'{"a/b": {"\\u0000": 1}}', ["/a~1b/\0"]),
        (b"NaN", [""]),
    ],
)
def test_what_cannot_be_kept_is_pointed_at(data: bytes, pointers: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        body.parse(data)
    assert [fault.pointer for fault in refused.value.faults] == pointers


def test_what_can_be_kept_is_not() -> None:
    kept = (
        b'[9007199254740991, -9007199254740991, 1e15, 1e-400, -0.0, "\\ud83d\\ude00", "\\\\u0000"]'
    )
    assert body.parse(kept)[5:] == ["😀", "\\u0000"]


def test_faults_can_be_sent() -> None:
    with pytest.raises(Invalid) as refused:
        body.parse(b'{"\\ud800": "\\ud800"}')
    for fault in refused.value.faults:
        f"{fault.pointer}{fault.message}".encode()


def test_ordinary_body_is_read_in_microseconds() -> None:
    data = json.dumps(make_payload(client_request_id="INC-1")).encode()
    began = time.process_time()
    for _ in range(1000):
        body.parse(data)
    assert time.process_time() - began < 0.25
