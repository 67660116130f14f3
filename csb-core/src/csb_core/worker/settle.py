"""Decides what an outcome makes of its request; writes nothing."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import Final, assert_never

import orjson

from csb_core.leases import End
from csb_core.models import Failed, Json, Lease, Outcome, Retry, Succeeded, Unfinished
from csb_core.states import Status

#: No wait for another attempt is longer, whatever the other side asks for.
LONGEST_WAIT: Final = timedelta(days=7)
BASE: Final = timedelta(seconds=1)
CAP: Final = timedelta(seconds=60)
#: A caller reads this text: it is no place for a page of somebody's HTML.
LONGEST_MESSAGE: Final = 1000
#: Characters of a reference: an index holds it.
LONGEST_REF: Final = 500
#: Bytes of JSON that one end may bring.
LARGEST: Final = 2_097_152


def settle(lease: Lease, outcome: Outcome) -> End:
    """What is to be recorded for this outcome; what PostgreSQL would not take becomes FAILED."""
    end = _settled(lease, outcome)
    return end if storable(end) else _failed(lease, UNSTORABLE)


def _settled(lease: Lease, outcome: Outcome) -> End:
    match outcome:
        case Succeeded():
            return End(
                correlation_id=lease.correlation_id,
                token=lease.token,
                status=Status.SUCCESS,
                result=outcome.result,
                changed=outcome.changed,
                error=None,
                wait=None,
                counts_as_retry=False,
                checkpoint=None,
                refs=outcome.refs,
            )
        case Failed():
            return _failed(lease, outcome)
        case Retry():
            if lease.retries + 1 >= lease.max_attempts:
                return _failed(lease, _exhausted(lease, outcome))
            return _given_back(lease, outcome)
        case Unfinished():
            return End(
                correlation_id=lease.correlation_id,
                token=lease.token,
                status=Status.PENDING,
                result=None,
                changed=None,
                error=None,
                wait=min(max(outcome.after, timedelta(milliseconds=1)), LONGEST_WAIT),
                counts_as_retry=False,
                checkpoint=outcome.checkpoint,
                refs=outcome.refs,
            )
        case _:
            assert_never(outcome)


def _failed(lease: Lease, outcome: Failed) -> End:
    return End(
        correlation_id=lease.correlation_id,
        token=lease.token,
        status=Status.FAILED,
        result=outcome.result,
        changed=outcome.changed,
        error=error_document(outcome, retryable=False),
        wait=None,
        counts_as_retry=False,
        checkpoint=None,
        refs=outcome.refs,
    )


def _given_back(lease: Lease, outcome: Retry) -> End:
    return End(
        correlation_id=lease.correlation_id,
        token=lease.token,
        status=Status.PENDING,
        result=None,
        changed=None,
        error=error_document(outcome, retryable=True),
        wait=min(max(backoff(lease.retries), outcome.after or timedelta()), LONGEST_WAIT),
        counts_as_retry=True,
        checkpoint=None,
        refs=outcome.refs,
    )


def _exhausted(lease: Lease, last: Retry) -> Failed:
    return Failed(
        error_class="RETRIES_EXHAUSTED",
        code=last.code,
        message=f"given up after {lease.max_attempts} tries; the last one: {last.message}",
        refs=last.refs,
    )


def backoff(retries: int) -> timedelta:
    """The first retry is made at once; after it the wait grows, with full jitter.

    Full jitter as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    if retries == 0:
        return timedelta()
    longest = min(CAP, BASE * 2 ** min(retries, 16))
    return timedelta(seconds=random.uniform(0, longest.total_seconds()))  # noqa: S311


def error_document(outcome: Failed | Retry, *, retryable: bool) -> Json:
    """The `error` of a request, as its tenant reads it."""
    return {
        "class": outcome.error_class,
        "code": outcome.code,
        "message": outcome.message[:LONGEST_MESSAGE],
        "retryable": retryable,
    }


def storable(end: End) -> bool:
    """Whether PostgreSQL takes it: objects of a sane size without NUL, NaN or lone surrogates."""
    values = [v for v in (end.result, end.checkpoint, end.error) if v is not None]
    refs = [text for ref in end.refs for text in (ref.type, ref.value, ref.service, ref.operation)]
    if not all(isinstance(value, dict) for value in values):
        return False
    if not all(isinstance(text, str) and len(text) <= LONGEST_REF for text in refs):
        return False
    try:
        text = orjson.dumps([values, refs])
    except TypeError:  # also orjson.JSONEncodeError
        return False
    suspicious = b"\\u0000" in text or b"null" in text  # orjson writes NaN as null
    return len(text) <= LARGEST and not (suspicious and _has_flaw([values, refs]))


def _has_flaw(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case float():
            return not math.isfinite(value)
        case dict():
            return any(_has_flaw(name) or _has_flaw(item) for name, item in value.items())
        case list() | tuple():
            return any(_has_flaw(item) for item in value)
        case _:
            return False


UNSTORABLE: Final = Failed(
    error_class="INTERNAL",
    code="result_unstorable",
    message="the action was executed, but its result cannot be stored as JSON",
)
