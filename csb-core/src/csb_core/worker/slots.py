"""How many requests a process may have at once: slots, taken before a message is dealt."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta


class Slots:
    """A count of free slots that can be closed for a while, or for good."""

    def __init__(self, total: int, *, nudge: Callable[[], None] = lambda: None) -> None:
        """`nudge` wakes whoever was told by `listen` that nothing has changed."""
        self.total = total
        self._free = total
        self._closed_for: set[str] = set()
        self._ended = False
        self._changed = threading.Condition()
        self._nudge = nudge
        self._listening = False
        #: Messages of each tenant that take a slot and are no lease yet.
        self._coming: Counter[str] = Counter()
        #: Whoever read that counted messages which have arrived since, perhaps beside their leases.
        self._counted = False
        self._recount = False

    def take(self) -> int:
        """Wait until a slot is free, then take all that are; 0 means that no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._can_take())
            if self._ended:
                return 0
            taken, self._free = self._free, 0
            self._listening = self._recount = False
            return taken

    def give(self, slots: int) -> None:
        """Give slots back."""
        with self._changed:
            self._free += slots
            nudged = self._wake() if slots else False
        if nudged:
            self._nudge()

    def listen(self, patience: timedelta) -> bool:
        """Wait a moment for a reason to deal anew: a slot beside those taken, another count.

        False when there is one. True means that the next one will nudge.
        """
        with self._changed:
            changed = self._changed.wait_for(
                lambda: self._ended or self._free > 0 or self._recount, patience.total_seconds()
            )
            self._listening = not changed
            return self._listening

    def expect(self, tenants: Iterable[str]) -> None:
        """Note whose messages were dealt."""
        with self._changed:
            self._coming.update(tenants)

    def coming(self) -> Counter[str]:
        """How many messages of each tenant were dealt and have not arrived."""
        with self._changed:
            self._counted = bool(self._coming)
            return Counter(self._coming)

    def arrived(self, tenants: Iterable[str]) -> None:
        """Note that so many messages have become leases, or nothing."""
        with self._changed:
            self._coming -= Counter(tenants)
            self._recount = self._counted
            nudged = self._wake() if self._recount else False
            self._counted = False
        if nudged:
            self._nudge()

    def close(self, reason: str) -> None:
        """Let nobody take a slot until `open` with the same reason."""
        with self._changed:
            self._closed_for.add(reason)

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
            nudged = self._wake()
        if nudged:
            self._nudge()

    def _can_take(self) -> bool:
        return self._free > 0 and not self._closed_for

    def _wake(self) -> bool:
        """Wake who waits in here; tells whether somebody waits elsewhere."""
        self._changed.notify_all()
        nudged, self._listening = self._listening, False
        return nudged

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        with self._changed:
            return self.total - self._free
