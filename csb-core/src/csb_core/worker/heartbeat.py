"""Keeps the leases in hand alive, and gives up on actions that do not return."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from csb_core import leases, metrics
from csb_core.db import Pool, connection
from csb_core.errors import StoreRejected, StoreUnavailable
from csb_core.worker.hand import Hand, Holding
from csb_core.worker.slots import Slots

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """One thread's work, independent of the actions: a slow one must not lose its lease."""

    pool: Pool
    hand: Hand
    provider: str
    ttl: timedelta
    every: timedelta
    slots: Slots
    #: Set when the process is to take nothing more and to end.
    leave: threading.Event
    stop: threading.Event

    def run(self) -> None:
        """Extend what is in hand until told to stop."""
        while not self.stop.wait(self.every.total_seconds()):
            try:
                self.run_once()
            except (StoreUnavailable, StoreRejected) as exc:
                logger.warning("heartbeat.failed", extra={"reason": str(exc)})
            if hung := self.hand.abandoned():
                self._give_up(hung)

    def run_once(self) -> int:
        """Extend every lease in hand with one statement; returns how many were found lost."""
        held = self.hand.to_extend()
        if not held:
            return 0
        began = time.monotonic()
        with connection(self.pool) as conn:
            kept = leases.extend(conn, [h.lease.claim for h in held], ttl=self.ttl)
        metrics.HEARTBEAT_SECONDS.labels(self.provider).observe(time.monotonic() - began)

        lost = 0
        for holding in held:
            if holding.lease.claim in kept:
                holding.expires = began + self.ttl.total_seconds()
            elif not holding.lost:
                # Recorded while we asked, or taken over: in both cases nothing may be begun.
                holding.lost = True
                lost += 1
        return lost

    def _give_up(self, hung: Sequence[Holding]) -> None:
        if self.leave.is_set():
            return
        logger.error(
            "action.deadline_missed",
            extra={"requests": [str(holding.lease.correlation_id) for holding in hung]},
        )
        metrics.DEADLINES_MISSED.labels(self.provider).inc()
        self.leave.set()
        self.slots.end()
