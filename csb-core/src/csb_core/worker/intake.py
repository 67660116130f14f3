"""Pops messages, never more than there are free slots for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from csb_core import metrics
from csb_core.errors import QueueUnavailable
from csb_core.queue import Queue
from csb_core.worker.slots import Slots

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Popped:
    """Messages as they came; each of them holds a slot."""

    messages: list[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """One thread's work: wait for a slot, wait for a message, hand over what came."""

    queue: Queue
    slots: Slots
    handed: Callable[[Popped], None]
    stop: threading.Event
    block_seconds: float

    def run(self) -> None:
        """Pop until there are no more slots to be had, for good."""
        while taken := self.slots.take():
            try:
                messages = self.run_once(taken)
            except QueueUnavailable as exc:
                logger.warning("queue.unavailable", extra={"reason": str(exc)})
                messages = []
                self.stop.wait(1.0)
            self.slots.give(taken - len(messages))
            if messages:
                metrics.POPPED.labels(self.queue.provider).inc(len(messages))
                self.handed(Popped(messages=messages))

    def run_once(self, slots: int) -> list[bytes]:
        """Up to `slots` messages: wait for the first, take the others as they stand."""
        first = self.queue.wait(self.block_seconds)
        if first is None:
            return []
        if slots == 1:
            return [first]
        try:
            return [first, *self.queue.take(slots - 1)]
        except QueueUnavailable:
            return [first]
