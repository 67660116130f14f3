"""Takes messages: no more than there are free slots for, nor than a tenant's portion of them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from csb_core import metrics
from csb_core.dealing import tenant_of
from csb_core.errors import QueueUnavailable
from csb_core.queue import Dealt, Queue
from csb_core.worker.doorman import Doorman
from csb_core.worker.hand import Hand
from csb_core.worker.slots import Slots

logger = logging.getLogger(__name__)

#: While messages are left that are not for this process, how long it waits for one that is, or for
#: a slot, before it looks whether that has changed: other processes take of them, or are gone.
LOOK_AGAIN: Final = timedelta(milliseconds=100)
#: Tenants that were dealt to within this time are company for each other.
LATELY: Final = timedelta(seconds=1)
#: In company, how many messages of one tenant may be on their way to a lease: more make statements
#: so long that they take the processors from its neighbours.
PACE: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Popped:
    """Messages as they came; each of them holds a slot."""

    messages: list[bytes]


@dataclass(slots=True, kw_only=True)
class Intake:
    """One thread's work: wait for a slot, wait for a message, hand over what it was dealt."""

    queue: Queue
    doorman: Doorman
    slots: Slots
    hand: Hand
    portion: float
    #: Takes the messages of tenants that hold several.
    handed: Callable[[Popped], None]
    #: Takes the only message of a tenant that holds nothing, so that no flood's batch is before it.
    ahead: Callable[[Popped], None]
    stop: threading.Event
    block_seconds: float
    #: Slots that the last deal did not fill: to ask again at once with these would be in vain.
    _spare: int = 0
    #: It left messages of tenants that hold their portion.
    _left: bool = False
    #: The two tenants that were dealt to last, and when: two are company.
    _served: dict[str, float] = field(default_factory=dict)
    #: When the only message of one of several tenants was last handed over.
    _guest_at: float = -math.inf

    def run(self) -> None:
        """Take messages until there are no more slots to be had, for good."""
        while (taken := self.slots.take()) is not None:
            try:
                messages = self.run_once(taken)
            except QueueUnavailable as exc:
                logger.warning("queue.unavailable", extra={"reason": str(exc)})
                messages = []
                self.stop.wait(1.0)
            self.hand_over(messages)
            self.slots.give(taken - len(messages))
        self._leave()

    def run_once(self, slots: int) -> list[bytes]:
        """Up to `slots` messages, fairly; waits first if there were not enough the last time.

        Slots that came free since, before anybody listened for them, are a reason to deal anew.
        """
        grown = self._left and slots > self._spare
        waits, self._spare = self._spare > 0 and slots > 0 and not grown, 0
        heard = self.doorman.heard()
        if waits and heard is None:
            seconds = LOOK_AGAIN.total_seconds() if self._left else self.block_seconds
            self.doorman.send(min(seconds, self.block_seconds), baton=not self._left)
            self.slots.listen(for_slots=self._left)
            heard = self.doorman.heard()
        first = heard.message if heard else None
        if first is None and (waits or not slots):
            return []  # and come back with all slots that are free by now
        if first is not None and slots and waits and not self._left and not self._held():
            return [first]  # nobody is passed over: what else there is, the next deal finds
        try:
            dealt = self._deal(slots, first)
        except QueueUnavailable:
            if first is None or not slots:
                raise
            return [first]
        self._spare, self._left = slots - len(dealt.messages), dealt.left
        return dealt.messages

    def _deal(self, slots: int, first: bytes | None) -> Dealt:
        in_company = self._is_in_company()
        coming = self.slots.count(awaited=in_company)
        return self.queue.deal(
            slots,
            portion=self.portion,
            held=self.hand.by_tenant() + coming,
            pace=PACE if in_company else None,
            coming=coming,
            popped=first,
        )

    def hand_over(self, messages: list[bytes]) -> None:
        """Give what was dealt to the loops: the only message of a tenant to the express lane."""
        if not messages:
            return
        tenants = [tenant_of(message) for message in messages]
        holds = self._held() + Counter(tenants)
        self.slots.expect(tenants)
        self._remember(tenants)
        metrics.POPPED.labels(self.queue.provider).inc(len(messages))
        single: list[bytes] = []
        others: list[bytes] = []
        for message, tenant in zip(messages, tenants, strict=True):
            (single if holds[tenant] == 1 else others).append(message)
        if single:
            if self._is_in_company():
                self._guest_at = time.monotonic()
            self.ahead(Popped(messages=single))
        if others:
            self.handed(Popped(messages=others))

    def has_guest(self) -> bool:
        """Whether one of several tenants came alone lately, and may do so again."""
        return _is_lately(self._guest_at)

    def _is_in_company(self) -> bool:
        return sum(map(_is_lately, self._served.values())) > 1

    def _remember(self, tenants: Sequence[str]) -> None:
        latest = dict.fromkeys(tenants, time.monotonic())
        before = [served for served in self._served.items() if served[0] not in latest]
        self._served = dict([*before, *latest.items()][-2:])

    def _leave(self) -> None:
        """Put back what still came to the door; without Redis the rescuer will ring for it."""
        try:
            last = self.doorman.dismiss()
            if last and last.message is not None:
                self.queue.give_back([last.message])
        except QueueUnavailable as exc:
            logger.warning("queue.unavailable", extra={"reason": str(exc)})

    def _held(self) -> Counter[str]:
        """The slots of each tenant.

        A message that has just become a lease may be counted twice, which errs on the side of the
        other tenants and lasts until the next deal.
        """
        return self.hand.by_tenant() + self.slots.coming()


def _is_lately(at: float) -> bool:
    return at > time.monotonic() - LATELY.total_seconds()
