"""Drops the cached status of what the API has moved itself, until Redis has really done so."""

from __future__ import annotations

import threading
from uuid import UUID

from csb_core.cache import StatusCache
from csb_core.errors import CacheUnavailable


class Forgetter:
    """Invalidates at once; what Redis did not hear is said again, pass after pass."""

    def __init__(self, cache: StatusCache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._left: dict[UUID, int] = {}

    def forget(self, correlation_id: UUID, version: int) -> None:
        """Drop the status, now or as soon as Redis answers; never raises."""
        try:
            self._cache.forget([(correlation_id, version)])
        except CacheUnavailable:
            with self._lock:
                self._left[correlation_id] = version

    def run_once(self) -> int:
        """Try again what is left; returns how many were forgotten, raises CacheUnavailable."""
        with self._lock:
            due = dict(self._left)
        if due:
            self._cache.forget(list(due.items()))
            with self._lock:
                for correlation_id in due:
                    self._left.pop(correlation_id, None)
        return len(due)
