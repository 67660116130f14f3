"""Waiting for something to become true, within a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")


def until(
    look: Callable[[], T],
    limit: timedelta,
    what: str,
    *,
    every: timedelta = timedelta(seconds=0.05),
) -> T:
    """What `look` gives as soon as it is true; raises AssertionError when it takes too long."""
    deadline = time.monotonic() + limit.total_seconds()
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit.total_seconds():g} s: {what}")
        time.sleep(every.total_seconds())
    return found
