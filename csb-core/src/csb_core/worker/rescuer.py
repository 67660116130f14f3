"""Saves what is stuck: expired leases, unrung requests, requests that kill their workers."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from csb_core import metrics, rescues
from csb_core.cache import StatusCache
from csb_core.db import Pool, connection
from csb_core.errors import CacheUnavailable, QueueUnavailable, StoreRejected, StoreUnavailable
from csb_core.models import Message
from csb_core.queue import Queue, encode
from csb_core.rescues import MOST_EXPIRED, Rescued
from csb_core.states import Status

logger = logging.getLogger(__name__)

#: A message younger than this may still be on its way from a list into a claim.
MARGIN: Final = timedelta(seconds=2)
#: A list that is longer needs no more rings: there is work enough for everybody.
HIGH_WATER: Final = 10_000
#: Rows that one pass rings; a longer backlog takes the next pass at once.
MOST: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescuer:
    """One thread's work in every worker, for its own provider; any one of them suffices."""

    pool: Pool
    queue: Queue
    cache: StatusCache
    worker: str
    every: timedelta
    stop: threading.Event

    def run(self) -> None:
        """Pass until told to stop."""
        full = False
        while not self.stop.wait(0 if full else self._pause()):
            try:
                full = len(self.run_once()) >= MOST_EXPIRED
            except (StoreUnavailable, StoreRejected, QueueUnavailable, CacheUnavailable) as exc:
                full = False
                logger.warning("rescue.failed", extra={"reason": str(exc)})

    def _pause(self) -> float:
        return self.every.total_seconds() * random.uniform(0.8, 1)  # noqa: S311

    def run_once(self) -> list[Rescued]:
        """One pass; returns what was rescued.

        Whatever fails after the commit is mended by a later pass: an unrung row is rung again
        after the margin, a status that was not forgotten expires in the cache.
        """
        began = time.monotonic()
        try:
            depth, oldest = self.queue.depth(), self.queue.oldest()
        except QueueUnavailable:
            depth, oldest = HIGH_WATER, None  # nothing can be rung now; leases still run out
        with connection(self.pool) as conn:
            rescued = rescues.rescue(
                conn,
                self.queue.provider,
                worker=self.worker,
                oldest=oldest,
                margin=MARGIN,
                room=max(0, min(MOST, HIGH_WATER - depth)),
            )
        self._tell(rescued)
        metrics.RESCUE_SECONDS.labels(self.queue.provider).observe(time.monotonic() - began)
        return rescued

    def _tell(self, rescued: list[Rescued]) -> None:
        if not rescued:
            return
        for row in rescued:
            if row.moved:
                logger.warning(
                    "request.rescued",
                    extra={
                        "correlation_id": str(row.correlation_id),
                        "tenant_id": str(row.tenant_id),
                        "status": row.status,
                        "attempt": row.attempt,
                    },
                )
            if row.status is Status.FAILED:
                metrics.POISONED.labels(self.queue.provider).inc()
            metrics.RESCUED.labels(self.queue.provider, _kind(row)).inc()

        try:
            self.queue.publish([ring(row) for row in rescued if row.status is Status.PENDING])
        finally:
            self.cache.forget([(row.correlation_id, row.version) for row in rescued if row.moved])


def _kind(row: Rescued) -> str:
    if not row.moved:
        return "rung"
    return "returned" if row.status is Status.PENDING else "spent"


def ring(row: Rescued) -> bytes:
    """The message that rings for this row."""
    message = Message(
        correlation_id=row.correlation_id,
        tenant_id=row.tenant_id,
        attempt=row.attempt,
        published_at=row.rung_at,
        traceparent=row.traceparent,
        payload=row.payload,
    )
    return encode(message, row.digest)
