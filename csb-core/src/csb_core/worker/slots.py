"""How many requests a process may have at once: slots, taken before a message is popped."""

from __future__ import annotations

import threading


class Slots:
    """A count of free slots that can be closed for a while, or for good."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._closed_for: set[str] = set()
        self._ended = False
        self._changed = threading.Condition()

    def take(self) -> int:
        """Wait until a slot is free, then take all that are; 0 means that no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._can_take())
            if self._ended:
                return 0
            taken, self._free = self._free, 0
            return taken

    def give(self, slots: int) -> None:
        """Give slots back."""
        with self._changed:
            self._free += slots
            self._changed.notify_all()

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
            self._changed.notify_all()

    def _can_take(self) -> bool:
        return self._free > 0 and not self._closed_for

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        with self._changed:
            return self.total - self._free
