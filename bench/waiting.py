"""Waits for something that can only be seen by looking."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.failure import BenchFailed


def until(done: Callable[[], bool], *, pause: float = 0.02, patience: float = 120) -> None:
    """Look until it is so; raises BenchFailed when it does not come to that in time."""
    deadline = time.monotonic() + patience
    while not done():
        if time.monotonic() > deadline:
            raise BenchFailed(f"what was waited for did not happen within {patience:g} s")
        time.sleep(pause)
