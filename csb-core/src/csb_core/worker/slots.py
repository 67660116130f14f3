"""How many requests a process may have at once: slots, taken before a message is dealt."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable


class Slots:
    """A count of free slots that can be closed for a while, or for good."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._closed_for: set[str] = set()
        self._ended = False
        self._changed = threading.Condition()
        #: Somebody at the door wants the one who takes slots.
        self._called = False
        #: Messages of each tenant that take a slot and are no lease yet.
        self._coming: Counter[str] = Counter()
        #: Whoever counted these wants to know when some have arrived; and some have.
        self._counted = False
        self._recount = False

    def take(self) -> int | None:
        """Wait until a slot is free, then take all that are.

        0 means that there is none and that somebody called; None that no more will come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._called or self._can_take())
            if self._ended:
                return None
            self._called = False
            if not self._can_take():
                return 0
            taken, self._free = self._free, 0
            return taken

    def give(self, slots: int) -> None:
        """Give slots back."""
        with self._changed:
            self._free += slots
            if slots:
                self._changed.notify_all()

    def call(self) -> None:
        """Wake whoever takes slots, wherever it waits."""
        with self._changed:
            self._called = True
            self._changed.notify_all()

    def listen(self, *, for_slots: bool) -> None:
        """Wait, with slots taken, for a call or for their being closed.

        With `for_slots` also for a reason to deal anew: a slot beside those taken, another count.
        """

        def heard() -> bool:
            anew = for_slots and (self._free > 0 or self._recount)
            return anew or self._called or self._ended or bool(self._closed_for)

        with self._changed:
            self._changed.wait_for(heard)
            self._called = False

    def expect(self, tenants: Iterable[str]) -> None:
        """Note whose messages were dealt."""
        with self._changed:
            self._coming.update(tenants)

    def coming(self) -> Counter[str]:
        """How many messages of each tenant were dealt and have not arrived."""
        with self._changed:
            return Counter(self._coming)

    def count(self, *, awaited: bool) -> Counter[str]:
        """As `coming`; who listens for slots hears when some of these have arrived since.

        An arrival may have been counted beside its lease. With `awaited` also arrivals of what is
        dealt after this are heard of.
        """
        with self._changed:
            self._recount, self._counted = False, awaited or bool(self._coming)
            return Counter(self._coming)

    def arrived(self, tenants: Iterable[str]) -> None:
        """Note that so many messages have become leases, or nothing."""
        arrived = Counter(tenants)
        with self._changed:
            self._coming -= arrived
            if arrived and self._counted:
                self._recount, self._counted = True, False
                self._changed.notify_all()

    def close(self, reason: str) -> None:
        """Let nobody take a slot until `open` with the same reason."""
        with self._changed:
            self._closed_for.add(reason)
            self._changed.notify_all()

    def open(self, reason: str) -> None:
        """Take this reason back; without another one slots can be taken again."""
        with self._changed:
            if reason in self._closed_for:
                self._closed_for.remove(reason)
                self._changed.notify_all()

    def end(self) -> None:
        """Let nobody take a slot any more, and wake who waits for one."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _can_take(self) -> bool:
        return self._free > 0 and not self._closed_for

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        with self._changed:
            return self.total - self._free
