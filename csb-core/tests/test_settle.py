"""What becomes of a request after each outcome; and that no outcome can ever wedge a worker."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import Act, Tiny, make_end, make_lease

from csb_core import leases
from csb_core.models import Failed, Lease, Outcome, Ref, Retry, Succeeded, Unfinished
from csb_core.states import Status
from csb_core.worker import settle as settling
from csb_core.worker.executor import Executor, Finished
from csb_core.worker.hand import Holding
from csb_core.worker.settle import CAP, LARGEST, LONGEST_WAIT, backoff, settle, storable

REF = Ref(type="request_id", value="r-1", service="iam", operation="AttachUserPolicy")
PASSING = Retry(error_class="THROTTLED", code="Throttling", message="slow down", refs=(REF,))
FINAL_FAULT = Failed(error_class="DENIED", code="AccessDenied", message="no", refs=(REF,))
AT_ONCE = timedelta()


@pytest.mark.parametrize(
    ("outcome", "retries", "expected"),
    [
        pytest.param(
            Succeeded(result={"a": 1}, changed=False, refs=(REF,)),
            0,
            {"status": Status.SUCCESS, "result": {"a": 1}, "changed": False, "refs": (REF,)},
            id="succeeded",
        ),
        pytest.param(
            Succeeded(result={}, changed=True),
            4,
            {"status": Status.SUCCESS, "result": {}},
            id="succeeded at the last try",
        ),
        pytest.param(
            FINAL_FAULT,
            0,
            {
                "status": Status.FAILED,
                "result": None,
                "changed": None,
                "refs": (REF,),
                "error": {
                    "class": "DENIED",
                    "code": "AccessDenied",
                    "message": "no",
                    "retryable": False,
                },
            },
            id="failed",
        ),
        pytest.param(
            replace(FINAL_FAULT, result={"done": ["a"]}, changed=True),
            0,
            {"status": Status.FAILED, "result": {"done": ["a"]}, "changed": True},
            id="failed half way",
        ),
        pytest.param(
            PASSING,
            0,
            {
                "status": Status.PENDING,
                "wait": AT_ONCE,
                "counts_as_retry": True,
                "refs": (REF,),
                "error": {
                    "class": "THROTTLED",
                    "code": "Throttling",
                    "message": "slow down",
                    "retryable": True,
                },
            },
            id="first retry at once",
        ),
        pytest.param(
            replace(PASSING, after=timedelta(seconds=90)),
            0,
            {"status": Status.PENDING, "wait": timedelta(seconds=90)},
            id="what the other side asks for is honoured, also the first time",
        ),
        pytest.param(
            replace(PASSING, after=timedelta(days=99_999)),
            2,
            {"status": Status.PENDING, "wait": LONGEST_WAIT},
            id="within reason",
        ),
        pytest.param(
            replace(PASSING, after=timedelta(seconds=-5)),
            0,
            {"status": Status.PENDING, "wait": AT_ONCE},
            id="a wait that lies in the past",
        ),
        pytest.param(
            PASSING,
            4,
            {
                "status": Status.FAILED,
                "wait": None,
                "counts_as_retry": False,
                "refs": (REF,),
                "error": {
                    "class": "RETRIES_EXHAUSTED",
                    "code": "Throttling",
                    "message": "given up after 5 tries; the last one: slow down",
                    "retryable": False,
                },
            },
            id="exhausted",
        ),
        pytest.param(
            Unfinished(checkpoint={"token": 1}, after=timedelta(seconds=9), refs=(REF,)),
            4,
            {
                "status": Status.PENDING,
                "wait": timedelta(seconds=9),
                "counts_as_retry": False,
                "checkpoint": {"token": 1},
                "error": None,
                "refs": (REF,),
            },
            id="unfinished costs no try, however many were made",
        ),
        pytest.param(
            Unfinished(checkpoint=None, after=AT_ONCE),
            0,
            {"status": Status.PENDING, "wait": timedelta(milliseconds=1), "checkpoint": None},
            id="unfinished always waits a little: it must not turn hot",
        ),
    ],
)
def test_each_outcome_has_one_end(outcome: Outcome, retries: int, expected: dict[str, Any]) -> None:
    lease = make_lease(retries=retries, token=7)
    end = settle(lease, outcome)
    assert (end.correlation_id, end.token) == lease.claim
    assert {name: getattr(end, name) for name in expected} == expected
    assert (end.wait is None) == (end.status is not Status.PENDING)


@given(retries=st.integers(0, 10_000))
def test_backoff_stays_within_its_growing_bounds(retries: int) -> None:
    longest = min(CAP.total_seconds(), 2.0 ** min(retries, 30))
    waits = [backoff(retries).total_seconds() for _ in range(20)]
    if retries == 0:
        assert set(waits) == {0}
    else:
        assert all(0 <= wait <= longest for wait in waits)


def test_backoff_uses_all_of_its_room() -> None:
    """Full jitter: waits lie anywhere between nothing and the longest, not around it."""
    waits = [backoff(3).total_seconds() for _ in range(2000)]
    for low in range(8):
        assert sum(low <= wait < low + 1 for wait in waits) > 150
    assert 3.7 < sum(waits) / len(waits) < 4.3


@given(
    retries=st.integers(0, 9),
    most=st.integers(1, 10),
    after=st.one_of(st.none(), st.timedeltas(timedelta(-1), timedelta(days=10_000))),
)
def test_a_passing_fault_is_either_tried_again_or_given_up(
    retries: int, most: int, after: timedelta | None
) -> None:
    end = settle(make_lease(retries=retries, max_attempts=most), replace(PASSING, after=after))
    if retries + 1 >= most:
        assert (end.status, end.error["class"] if end.error else None) == (
            Status.FAILED,
            "RETRIES_EXHAUSTED",
        )
    else:
        assert end.status is Status.PENDING
        assert end.wait is not None
        assert min(after or AT_ONCE, LONGEST_WAIT) <= end.wait <= LONGEST_WAIT


def test_a_long_message_is_cut() -> None:
    end = settle(make_lease(), replace(FINAL_FAULT, message="x" * 100_000))
    assert end.error is not None
    assert len(end.error["message"]) == settling.LONGEST_MESSAGE


NESTED: dict[str, Any] = {}
for _ in range(400):
    NESTED = {"deeper": NESTED}
CIRCULAR: dict[str, Any] = {}
CIRCULAR["me"] = CIRCULAR

UNSTORABLE: dict[str, Any] = {
    "NaN": {"a": math.nan},
    "infinity, deep inside": {"a": [{"b": (1, -math.inf)}]},
    "NUL in a value": {"a": "x\0y"},
    "NUL in a name": {"x\0y": 1},
    "a lone surrogate": {"a": "\ud800"},
    "a lone surrogate in a name": {"\udfff": 1},
    "no JSON": {"a": object()},
    "bytes": {"a": b"x"},
    "a set": {"a": {1}},
    "names that are no text": {1: 2},
    "an integer of 80 bits": {"a": 2**80},
    "too large": {"a": "x" * LARGEST},
    "too deep": NESTED,
    "circular": CIRCULAR,
    "a list": [1, 2],
    "text": "done",
    "a number": 1,
    "true": True,
}


@pytest.mark.parametrize("name", UNSTORABLE)
def test_what_cannot_be_stored_ends_failed(name: str) -> None:
    lease, value = make_lease(), UNSTORABLE[name]
    for outcome in (
        Succeeded(result=value, changed=True),
        replace(FINAL_FAULT, result=value),
        Unfinished(checkpoint=value, after=AT_ONCE),
    ):
        end = settle(lease, outcome)
        assert end.status is Status.FAILED
        assert end.error is not None
        assert end.error["code"] == "result_unstorable"
        assert storable(end)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize("kind", [Failed, Retry])
def test_texts_and_references_that_cannot_be_stored_end_failed(text: str, kind: type) -> None:
    for given_text, ref in (
        ({"message": text}, REF),
        ({"code": text}, REF),
        ({"error_class": text}, REF),
        ({}, replace(REF, value=text)),
        ({}, replace(REF, value="x" * 5000)),
        ({}, replace(REF, value=cast("str", None))),
    ):
        fields = {"error_class": "X", "code": "X", "message": "x"} | given_text
        end = settle(make_lease(), kind(**fields, refs=(ref,)))
        assert end.error is not None
        assert (end.status, end.error["code"]) == (Status.FAILED, "result_unstorable")


STORABLE: list[dict[str, Any]] = [
    {},
    {"a": None, "b": [None, {"c": 0.5}]},
    {"text that only looks like a NUL": "\\u0000", "null": "null"},
    {"when": datetime(2026, 1, 1, tzinfo=UTC)},
    {"emoji": "\U0001f600", "control": "\x01\x1f"},
    {"big": 2**63 - 1, "float": 0.1},
    {"large": "x" * (LARGEST - 1000)},
]


@pytest.mark.parametrize("value", STORABLE, ids=lambda value: next(iter(value), "empty"))
def test_what_looks_suspicious_and_is_not_is_stored(tiny: Tiny, value: dict[str, Any]) -> None:
    [request] = tiny.submit()
    [lease] = tiny.claim(request)
    end = settle(lease, Succeeded(result=value, changed=True))
    assert end.status is Status.SUCCESS
    leases.record(tiny.store, [end], worker="w1")
    assert tiny.row(request)["result"] == orjson.loads(orjson.dumps(value))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(st.characters(codec=None), max_size=4), children, max_size=3)
    ),
    max_leaves=8,
)


def test_whatever_passes_as_storable_is_taken_by_postgresql(tiny: Tiny) -> None:
    [request] = tiny.submit()
    [lease] = tiny.claim(request)

    @given(result=st.dictionaries(st.text(st.characters(codec=None), max_size=4), JSON, max_size=3))
    def try_it(result: dict[str, Any]) -> None:
        end = make_end(lease, result=result)
        if storable(end):
            with tiny.store.transaction(force_rollback=True):
                assert leases.record(tiny.store, [end], worker="w1")

    try_it()


# -- what a foreign action may do instead of returning an outcome


class _Weird(BaseException):
    """Not an Exception."""


def _raise(error: BaseException) -> Outcome:
    raise error


@pytest.mark.parametrize(
    "do",
    [
        lambda: None,
        lambda: {"status": "SUCCESS"},
        lambda: Succeeded,
        lambda: Retry(error_class="X", code="x", message="x", after=cast("Any", 5)),
        lambda: Failed(error_class="X", code="x", message=cast("Any", None)),
        lambda: Unfinished(checkpoint=None, after=cast("Any", "soon")),
        lambda: Succeeded(result={}, changed=True, refs=cast("Any", None)),
        lambda: Succeeded(result={}, changed=True, refs=cast("Any", ("r-1",))),
        lambda: _raise(RuntimeError("the tenant must not read this")),
        lambda: _raise(SystemExit(1)),
        lambda: _raise(RecursionError()),
        lambda: _raise(MemoryError()),
        lambda: _raise(_Weird("as some libraries raise")),
    ],
)
def test_an_action_that_misbehaves_crashes_alone_and_is_tried_again(do: Any) -> None:
    finished = _execute(lambda _lease, _attempt: do())
    assert finished.end.status is Status.PENDING
    assert finished.end.error == {
        "class": "INTERNAL",
        "code": "action_crashed",
        "message": "the action crashed",
        "retryable": True,
    }


def test_an_action_that_nobody_knows_fails() -> None:
    finished = _execute(lambda _lease, _attempt: None, action="unheard-of")
    assert finished.end.error is not None
    assert (finished.end.status, finished.end.error["code"]) == (Status.FAILED, "unknown_action")


def _execute(do: Any, **lease: Any) -> Finished:
    executor = Executor(
        actions={"noop": Act(do=do)},
        pool=cast("Any", None),
        ttl=timedelta(seconds=7),
        misconfigured=lambda _: None,
        threads=0,
    )
    given_lease: Lease = make_lease(**lease)
    return executor.execute(Holding(lease=given_lease, expires=math.inf, due=math.inf))
