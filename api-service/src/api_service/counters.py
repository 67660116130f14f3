"""Rate limit counters: counted here at once, shared through Redis every tenth of a second.

A shared count per request would cost two calls to Redis, more than everything else that a cached
GET does. So each process counts by itself, and a pass adds what it counted to Redis and takes home
the sum of all processes. Between two passes a process does not know what the others admit:
a limit can be overshot by what they admit in one interval, and by no more. While Redis is away
each process limits by what it has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import redis
from limits.storage import Storage
from limits.storage.base import SlidingWindowCounterSupport

from api_service.circuit import Circuit
from csb_core import keys
from csb_core.errors import CacheUnavailable

#: More keys than this are not remembered from one window to the next.
_MOST_COUNTS: Final = 50_000


@dataclass(slots=True)
class _Count:
    """One key in its present window, and what the window before came to."""

    window: int
    expiry: int
    before: int = 0
    shared: int = 0
    unsent: int = 0
    asked: bool = False

    @property
    def total(self) -> int:
        return self.shared + self.unsent


class SharedCounters(Storage, SlidingWindowCounterSupport):
    """The storage behind Flask-Limiter; `share` is its background pass."""

    STORAGE_SCHEME = ["csb-shared"]  # noqa: RUF012, the registry reads it from the class

    def __init__(
        self,
        uri: str | None = None,
        *,
        redis_client: redis.Redis,
        circuit: Circuit,
        clock: Callable[[], float] = time.time,
        **options: float | str | bool,
    ) -> None:
        super().__init__(uri, wrap_exceptions=False, **options)
        self._redis = redis_client
        self._circuit = circuit
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """What a storage of `limits` may raise; counting here raises nothing."""
        return redis.RedisError

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Count `amount` and return True, or count nothing and return False when it is too much."""
        now = self._clock()
        count = self._count(key, expiry, now)
        if _used(count, now) + amount > limit:
            return False
        count.unsent += amount
        return True

    def standing(self, key: str, expiry: int) -> tuple[float, float]:
        """Return what is used up of a limit, and the seconds until its window ends."""
        now = self._clock()
        return _used(self._count(key, expiry, now), now), expiry - now % expiry

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return count and time to live of the window before, then of the present one."""
        now = self._clock()
        count = self._count(key, expiry, now)
        left = expiry - now % expiry
        return count.before, left, count.total, left + expiry

    def free_in(self, key: str, limit: int, expiry: int, amount: int) -> float:
        """Return the seconds after which `amount` more will fit, if nobody counts meanwhile."""
        now = self._clock()
        count = self._count(key, expiry, now)
        room, gone = limit - amount, now % expiry
        if count.total <= room:  # in this window, when enough of the last one has slid out
            share = 1 - (room - count.total) / max(count.before, 1)
            return max(0.0, share * expiry - gone)
        return expiry - gone + max(0.0, 1 - room / count.total) * expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget a key in this process."""
        del expiry
        self._counts.pop(key, None)

    def share(self) -> int:
        """Exchange counts with the other processes; returns how many keys were exchanged."""
        now = self._clock()
        due: list[tuple[str, _Count, int]] = []
        for key, count in list(self._counts.items()):
            if now >= (count.window + 2) * count.expiry:
                self._counts.pop(key, None)
            elif count.unsent or not count.asked:
                due.append((key, count, count.unsent))
        if not due or self._circuit.is_open:
            return 0
        try:
            sums = self._exchange(due)
        except (redis.RedisError, OSError) as exc:
            self._circuit.trip()
            raise CacheUnavailable("rate limits could not be shared") from exc
        for (_, count, sent), (before, total) in zip(due, sums, strict=True):
            count.before, count.shared, count.asked = max(before, count.before), total, True
            count.unsent -= sent
        return len(due)

    def _exchange(self, due: list[tuple[str, _Count, int]]) -> list[tuple[int, int]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for key, count, sent in due:
                name = keys.limit(key, count.window)
                pipe.get(keys.limit(key, count.window - 1))
                pipe.incrby(name, sent)
                pipe.expire(name, count.expiry * 2)
            answers = pipe.execute()
        return [
            (int(before or 0), int(total))
            for before, total in zip(answers[0::3], answers[1::3], strict=True)
        ]

    def _count(self, key: str, expiry: int, now: float) -> _Count:
        window = int(now // expiry)
        count = self._counts.get(key)
        if count is None or count.window != window:
            if len(self._counts) >= _MOST_COUNTS:
                self._counts.clear()
            before = count.total if count is not None and count.window == window - 1 else 0
            count = self._counts[key] = _Count(window=window, expiry=expiry, before=before)
        return count

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` in the present window, whatever the limit; return the sum."""
        count = self._count(key, expiry, self._clock())
        count.unsent += amount
        return count.total

    def get(self, key: str) -> int:
        """Return the sum in the present window."""
        count = self._counts.get(key)
        return count.total if count else 0

    def get_expiry(self, key: str) -> float:
        """Return when the present window ends."""
        count = self._counts.get(key)
        return (count.window + 1.0) * count.expiry if count else self._clock()

    def check(self) -> bool:
        """Return True: a process can always count by itself."""
        return True

    def reset(self) -> int | None:
        """Forget every key in this process."""
        forgotten = len(self._counts)
        self._counts.clear()
        return forgotten

    def clear(self, key: str) -> None:
        """Forget a key in this process."""
        self._counts.pop(key, None)


def _used(count: _Count, now: float) -> float:
    """Return the sum of the window that ends now: the present one, and the rest of the last."""
    return count.before * (1 - now % count.expiry / count.expiry) + count.total
