"""Saves what is stuck: expired leases, unrung requests, requests that kill their workers."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from csb_core import metrics, rescues
from csb_core.cache import StatusCache
from csb_core.db import Pool, connection
from csb_core.dealing import NOBODY
from csb_core.errors import CacheUnavailable, QueueUnavailable, StoreRejected, StoreUnavailable
from csb_core.models import Message
from csb_core.queue import Queue, Standing, encode
from csb_core.rescues import MOST_EXPIRED, Bound, Rescued
from csb_core.states import Status

logger = logging.getLogger(__name__)

#: A message younger than this may still be on its way from a list into a claim.
MARGIN: Final = timedelta(seconds=2)
#: A tenant with more messages needs no more rings: there is work enough of it for everybody.
HIGH_WATER: Final = 10_000
#: Rows that one pass rings; a longer backlog takes the next pass at once.
MOST: Final = 2_000
NOTHING: Final = Standing(unsorted=0, oldest_unsorted=None, backlogs=())


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
            self.queue.sort()
            standing = self.queue.standing()
            room = min(MOST, max(0, HIGH_WATER - standing.unsorted))
        except QueueUnavailable:
            standing, room = NOTHING, 0  # nothing can be rung now; leases still run out
        with connection(self.pool) as conn:
            rescued = rescues.rescue(
                conn,
                self.queue.provider,
                worker=self.worker,
                oldest=standing.oldest_unsorted,
                bounds=bounds(standing),
                margin=MARGIN,
                room=room,
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


def bounds(standing: Standing) -> list[Bound]:
    """What the messages that stand say of their tenants."""
    return [
        Bound(
            tenant_id=UUID(backlog.tenant),
            oldest=backlog.oldest,
            room=max(0, HIGH_WATER - backlog.depth),
        )
        for backlog in standing.backlogs
        if backlog.tenant != NOBODY
    ]


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
