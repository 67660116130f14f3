"""Takes messages: no more than there are free slots for, nor than a tenant's portion of them."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from csb_core import metrics
from csb_core.dealing import tenant_of
from csb_core.errors import QueueUnavailable
from csb_core.queue import Queue
from csb_core.worker.hand import Hand
from csb_core.worker.slots import Slots

logger = logging.getLogger(__name__)

#: How long it waits for a slot in the process before it waits for messages in Redis: where actions
#: are quick, slots come back so often that a word to Redis for each would be too much.
PATIENCE: Final = timedelta(milliseconds=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Popped:
    """Messages as they came; each of them holds a slot."""

    messages: list[bytes]


@dataclass(slots=True, kw_only=True)
class Intake:
    """One thread's work: wait for a slot, wait for a message, hand over what it was dealt."""

    worker: str
    queue: Queue
    slots: Slots
    hand: Hand
    portion: float
    handed: Callable[[Popped], None]
    stop: threading.Event
    block_seconds: float
    #: The last deal did not fill the slots: to ask again at once would be in vain.
    _in_vain: bool = False
    #: It left messages of tenants that hold their portion.
    _left: bool = False

    def run(self) -> None:
        """Take messages until there are no more slots to be had, for good."""
        while taken := self.slots.take():
            try:
                messages = self.run_once(taken)
            except QueueUnavailable as exc:
                logger.warning("queue.unavailable", extra={"reason": str(exc)})
                messages = []
                self.stop.wait(1.0)
            self.slots.expect(tenant_of(message) for message in messages)
            self.slots.give(taken - len(messages))
            if messages:
                metrics.POPPED.labels(self.queue.provider).inc(len(messages))
                self.handed(Popped(messages=messages))

    def run_once(self, slots: int) -> list[bytes]:
        """Up to `slots` messages, fairly; waits first if there were not enough the last time."""
        first: bytes | None = None
        if self._in_vain:
            self._in_vain = False
            if self._left and not self.slots.listen(PATIENCE):
                return []
            first = self.queue.wait(self.block_seconds, nudged=self.worker if self._left else None)
            if first is None:
                return []  # and come back with all slots that are free by now
            if not self._left and not self._held():
                return [first]  # nobody is passed over: what else there is, the next deal finds
        try:
            dealt = self.queue.deal(slots, portion=self.portion, held=self._held(), popped=first)
        except QueueUnavailable:
            if first is None:
                raise
            return [first]
        self._in_vain, self._left = len(dealt.messages) < slots, dealt.left
        return dealt.messages

    def _held(self) -> Counter[str]:
        """The slots of each tenant.

        A message that has just become a lease may be counted twice, which errs on the side of the
        other tenants and lasts until the next deal.
        """
        return self.hand.by_tenant() + self.slots.coming()


def nudger(queue: Queue, worker: str) -> Callable[[], None]:
    """How a worker wakes its own intake; without Redis it does not wait for long either."""

    def nudge() -> None:
        try:
            queue.nudge(worker)
        except QueueUnavailable as exc:
            logger.warning("queue.unavailable", extra={"reason": str(exc)})

    return nudge
