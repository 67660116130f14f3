"""Remembers for a moment that a neighbour did not answer, so that others need not wait for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(slots=True, kw_only=True)
class Circuit:
    """Open after a failure, for `pause`; then somebody may try again."""

    pause: timedelta = timedelta(seconds=1)
    _until: float = field(default=0.0, init=False)

    @property
    def is_open(self) -> bool:
        """Whether asking would most likely only cost time."""
        return time.monotonic() < self._until

    def trip(self) -> None:
        """Note that the neighbour has just failed."""
        self._until = time.monotonic() + self.pause.total_seconds()
