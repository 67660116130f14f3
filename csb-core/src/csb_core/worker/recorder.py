"""Writes ends so that each is written once, whatever the database or the network does."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import assert_never
from uuid import UUID

from csb_core import leases, log, metrics, rescues
from csb_core.db import Pool, connection
from csb_core.errors import StoreRejected, StoreUnavailable
from csb_core.ids import made_at
from csb_core.leases import End, Recorded, Standing
from csb_core.models import Failed, Json, Retry, Succeeded, Unfinished
from csb_core.states import Status
from csb_core.worker.executor import Finished
from csb_core.worker.hand import Holding
from csb_core.worker.settle import UNSTORABLE, settle

logger = logging.getLogger(__name__)

Item = tuple[Holding, End]
Batch = Sequence[Item]


def record(batch: Batch, pool: Pool, provider: str, *, worker: str) -> dict[UUID, Recorded]:
    """Write these ends in one statement and return those that were written, now or before.

    What is missing from the answer was taken over by another worker: nothing was written for it
    but that its audit says so. Raises StoreUnavailable when it cannot be known; ask again then.
    """
    began = time.monotonic()
    current, superseded = _by_claim(batch)
    try:
        with connection(pool) as conn:
            recorded = leases.record(conn, [end for _, end in current], worker=worker)
    except StoreRejected as exc:
        if len(batch) == 1:
            return _record_instead(batch[0], exc, pool, provider, worker=worker)
        return _record_singly(batch, pool, provider, worker=worker)
    metrics.RECORD_SECONDS.labels(provider).observe(time.monotonic() - began)
    metrics.RECORD_BATCH.labels(provider).observe(len(recorded))

    refused = [item for item in current if item[1].correlation_id not in recorded] + superseded
    if refused:
        recorded |= _examine(refused, pool, provider, worker=worker)
    _tell([item for item in current if item[1].correlation_id in recorded], recorded, provider)
    return recorded


def _tell(written: Batch, recorded: Mapping[UUID, Recorded], provider: str) -> None:
    """Count what was written, and leave a line for each request."""
    for status, number in Counter(end.status for _, end in written).items():
        metrics.RECORDED.labels(provider, status).inc(number)
    for holding, end in written:
        if end.status is Status.PENDING:
            logger.info("request.given_back", extra={**_names(holding), **_said_of(end)})
            continue
        took = max(0.0, recorded[end.correlation_id].at.timestamp() - made_at(end.correlation_id))
        metrics.REQUEST_SECONDS.labels(provider, end.status).observe(took)
        logger.info(
            "request.ended",
            extra={
                **_names(holding),
                **_said_of(end),
                "attempt": holding.lease.attempt,
                "duration_ms": round(took * 1000, 3),
            },
        )


def _by_claim(batch: Batch) -> tuple[list[Item], list[Item]]:
    """The latest claim's end of each request, and those of claims that we took over ourselves."""
    latest: dict[UUID, int] = {}
    for _, end in batch:
        latest[end.correlation_id] = max(end.token, latest.get(end.correlation_id, 0))
    current: list[Item] = []
    superseded: list[Item] = []
    for item in batch:
        is_latest = item[1].token == latest[item[1].correlation_id]
        (current if is_latest else superseded).append(item)
    return current, superseded


def _record_singly(batch: Batch, pool: Pool, provider: str, *, worker: str) -> dict[UUID, Recorded]:
    """One statement each, all of them; then raises StoreRejected if it was raised for any."""
    recorded: dict[UUID, Recorded] = {}
    refusal: StoreRejected | None = None
    for item in batch:
        try:
            recorded |= record([item], pool, provider, worker=worker)
        except StoreRejected as exc:
            refusal = exc
    if refusal is not None:
        raise refusal
    return recorded


def _record_instead(
    item: Item, refusal: StoreRejected, pool: Pool, provider: str, *, worker: str
) -> dict[UUID, Recorded]:
    """An end that the database refuses becomes FAILED, and if it is that already, our death."""
    holding, end = item
    logger.error("request.end_rejected", extra={**_names(holding), "status": end.status})
    instead = settle(holding.lease, UNSTORABLE)
    if instead == end:
        raise refusal
    return record([(holding, instead)], pool, provider, worker=worker)


def _examine(refused: Batch, pool: Pool, provider: str, *, worker: str) -> dict[UUID, Recorded]:
    """Tell an end that was written before, its acknowledgement lost, from a lease taken over."""
    with connection(pool) as conn:
        now = leases.standing(conn, (end.correlation_id for _, end in refused))
    before: dict[UUID, Recorded] = {}
    for holding, end in refused:
        row = now.get(end.correlation_id)
        if row is not None and _is_mine(row, end, worker):
            before[end.correlation_id] = Recorded(
                correlation_id=end.correlation_id, version=row.version, at=row.updated_at
            )
            continue
        metrics.STALE_WRITES.labels(provider).inc()
        metrics.LEASES_LOST.labels(provider).inc()
        logger.warning("request.stale_write_refused", extra=_names(holding))
        _report(holding, end, pool, worker=worker)
    return before


def _is_mine(row: Standing, end: End, worker: str) -> bool:
    return row.token == end.token and row.status is end.status and row.moved_by == worker


def _report(holding: Holding, end: End, pool: Pool, *, worker: str) -> None:
    try:
        with connection(pool) as conn:
            rescues.report_stale_write(
                conn,
                end.correlation_id,
                token=end.token,
                worker=worker,
                detail={"status": end.status, "attempt": holding.lease.attempt},
            )
    except (StoreUnavailable, StoreRejected) as exc:
        logger.warning("request.stale_write_unrecorded", extra={"reason": str(exc)})


def count(finished: Sequence[Finished], provider: str) -> None:
    """Count attempts by what they came to."""
    for (outcome, error_class), number in Counter(map(_what_of, finished)).items():
        metrics.OUTCOMES.labels(provider, outcome, error_class).inc(number)
        if outcome == "retry":
            metrics.RETRIES.labels(provider, error_class).inc(number)


def _what_of(finished: Finished) -> tuple[str, str]:
    match finished.outcome:
        case Succeeded():
            return "succeeded", ""
        case Failed(error_class=error_class):
            return "failed", error_class
        case Retry(error_class=error_class):
            return "retry", error_class
        case Unfinished():
            return "unfinished", ""
        case never:
            assert_never(never)


def _names(holding: Holding) -> dict[str, str | None]:
    lease = holding.lease
    principal = lease.principal or {}
    return {
        "correlation_id": str(lease.correlation_id),
        "tenant_id": str(lease.tenant_id),
        "request_id": lease.request_id,
        "trace_id": log.trace_id(lease.traceparent),
        "action": lease.action,
        "account_id": lease.account_id,
        "principal_type": principal.get("type"),
        "principal_name": principal.get("name"),
    }


def _said_of(end: End) -> Json:
    """What people search the lines for: why it failed, and the names that others gave to it."""
    error = end.error or {}
    refs: dict[str, list[str]] = {}
    for ref in end.refs:
        refs.setdefault(ref.type, []).append(ref.value)
    return {
        "status": end.status,
        "error_class": error.get("class"),
        "code": error.get("code"),
        "refs": refs or None,
    }
