"""Huey on Redis, two processes. What it has enqueued is not durable when it says so."""

from __future__ import annotations

import json
import time

from bench import fleet
from bench.fleet import PROCESSES
from bench.scene import Reading
from bench.waiting import until
from bench.yardsticks.side import Side, job, told

_LIST = "huey.redis.bench"


def huey(side: Side) -> Reading:
    """Jobs enqueued a second by two processes without HTTP, and jobs drained a second by two."""
    each = side.sizes.huey // PROCESSES
    callers = [side.spawn("huey_fill", str(each), job=job()) for _ in range(PROCESSES)]
    spans = [json.loads(told(caller)) for caller in callers]
    enqueued = each * PROCESSES / (max(s[1] for s in spans) - min(s[0] for s in spans))

    argv = [
        *(str(side.python), "-m", "huey.bin.huey_consumer", "bench.jobs.huey_jobs.huey"),
        *("--workers", str(PROCESSES), "--worker-type", "process", "--quiet", "--no-periodic"),
    ]
    with (
        side.redis() as client,
        fleet.program(side.servers, "huey", argv, env=side.env(), up=lambda _: True),
    ):
        count = client.llen(_LIST)
        until(lambda: client.llen(_LIST) < count, pause=0.002)
        began, first = time.monotonic(), client.llen(_LIST)
        until(lambda: client.llen(_LIST) == 0, pause=0.005)
        seconds = time.monotonic() - began
    return Reading(figures={"huey_enqueue_per_s": enqueued, "huey_drain_per_s": first / seconds})
