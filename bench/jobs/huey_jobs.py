"""Huey on Redis: what its consumer loads."""

from __future__ import annotations

import os
from typing import Any

from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS_URL"])


def _perform(job: Any) -> None:
    """Do nothing."""
    del job


perform = huey.task(name="perform")(_perform)
