"""Huey on Redis: `fill N` enqueues N jobs and tells when it began and ended."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS_URL"])


def _perform(job: Any) -> None:
    """Do nothing."""
    del job


perform = huey.task(name="perform")(_perform)


def main() -> None:
    """Enqueue so many jobs; the job comes by standard input."""
    job = sys.stdin.read()
    began = time.time()
    for _ in range(int(sys.argv[1])):
        perform(job)
    json.dump([began, time.time()], sys.stdout)


if __name__ == "__main__":
    main()
