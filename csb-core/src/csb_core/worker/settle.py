"""Decides what an outcome makes of its request; writes nothing."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final, assert_never

import orjson

from csb_core.leases import End
from csb_core.models import Failed, Json, Lease, Outcome, Retry, Succeeded, Unfinished
from csb_core.states import Status

BASE: Final = timedelta(seconds=1)
CAP: Final = timedelta(seconds=60)
#: A caller reads this text: it is no place for a page of somebody's HTML.
LONGEST_MESSAGE: Final = 1000


def settle(lease: Lease, outcome: Outcome) -> End:
    """What is to be recorded for this outcome."""
    match outcome:
        case Succeeded():
            if not storable(outcome.result):
                return _failed(lease, UNSTORABLE)
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
                wait=max(outcome.after, timedelta(milliseconds=1)),
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
        wait=max(backoff(lease.retries), outcome.after or timedelta()),
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


def storable(result: Json) -> bool:
    """Whether jsonb takes it: a JSON object without NUL characters and lone surrogates."""
    try:
        return b"\\u0000" not in orjson.dumps(result)
    except (TypeError, orjson.JSONEncodeError):
        return False


UNSTORABLE: Final = Failed(
    error_class="INTERNAL",
    code="result_unstorable",
    message="the action was executed, but its result cannot be stored as JSON",
)
