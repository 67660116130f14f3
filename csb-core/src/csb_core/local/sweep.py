"""Nothing of a platform is left running, whatever became of its supervisor."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from datetime import timedelta

from csb_core.local import postgres, processes, redis
from csb_core.local.layout import Layout


def sweep(layout: Layout, patience: timedelta = timedelta(seconds=15)) -> int:
    """End every process of this run directory; return how many there were.

    Those that do the work get time to finish it; the servers that they need go last.
    """
    left = _without_servers(layout)
    _end(layout, left, signal.SIGTERM, patience)
    _end(layout, _without_servers(layout), signal.SIGKILL, timedelta(seconds=5))

    servers = [
        server
        for server in (postgres.pid_of(layout.postgres), redis.pid_of(layout.redis))
        if server
    ]
    postgres.stop(layout.postgres)
    redis.stop(layout.redis)
    _end(layout, processes.marked(layout.run), signal.SIGKILL, timedelta(seconds=5))
    return len(left) + len(servers)


def _without_servers(layout: Layout) -> list[int]:
    postmaster, server = postgres.pid_of(layout.postgres), redis.pid_of(layout.redis)
    spared = {postmaster, server}
    return [
        pid
        for pid in processes.marked(layout.run)
        if pid not in spared and processes.parent(pid) != postmaster
    ]


def _end(layout: Layout, pids: Iterable[int], number: signal.Signals, patience: timedelta) -> None:
    processes.end(
        pids,
        lambda pid: pid in processes.marked(layout.run),
        signals=((number, patience),),
    )
