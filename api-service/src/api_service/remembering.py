"""A bounded memory with expiry: what was kept longest ago gives way."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembering(Generic[Key, Value]):
    """At most so many values by their keys, each for as long as was said when it was kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[Value, float]] = OrderedDict()

    def find(self, key: Key) -> Value | None:
        """Return what is kept under the key; None when nothing is, or not any longer."""
        kept = self._kept.get(key)
        if kept is None or kept[1] < time.monotonic():
            return None
        return kept[0]

    def keep(self, key: Key, value: Value, how_long: timedelta) -> None:
        """Keep a value for so long, or until it gives way."""
        with self._lock:
            self._kept[key] = (value, time.monotonic() + how_long.total_seconds())
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def drop(self, which: Callable[[Key], bool]) -> None:
        """Forget what is kept under such keys."""
        with self._lock:
            for key in [key for key in self._kept if which(key)]:
                del self._kept[key]
