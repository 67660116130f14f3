"""PgQueuer on asyncpg: `install`, `enqueue N` one by one, `fill N` at once, `drain`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable

import asyncpg
from pgqueuer import AsyncpgDriver, AsyncpgPoolDriver, Job, PgQueuer, Queries
from pgqueuer.types import QueueExecutionMode

#: So many callers enqueue side by side; so many jobs a worker takes at once.
_CALLERS = 16
_BATCH = int(os.environ.get("BENCH_BATCH", "100"))


async def install() -> None:
    """Make its tables."""
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE_URL"])
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def enqueue(count: int, job: bytes) -> None:
    """Enqueue job after job by several callers, each with a commit of its own."""
    async with asyncpg.create_pool(
        os.environ["BENCH_DATABASE_URL"], min_size=_CALLERS, max_size=_CALLERS
    ) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))

        async def call() -> None:
            for _ in range(count // _CALLERS):
                await queries.enqueue("perform", job)

        began = time.time()
        await asyncio.gather(*(call() for _ in range(_CALLERS)))
        json.dump([began, time.time()], sys.stdout)


async def fill(count: int, job: bytes) -> None:
    """Enqueue many at once."""
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE_URL"])
    queries = Queries(AsyncpgDriver(connection))
    for first in range(0, count, 1000):
        some = min(1000, count - first)
        await queries.enqueue(["perform"] * some, [job] * some, [0] * some)
    await connection.close()


async def drain() -> None:
    """Work until the queue is empty; tell when the first job began and the last one ended."""
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE_URL"])
    pgq = PgQueuer(AsyncpgDriver(connection))
    times: list[float] = []

    async def perform(job: Job) -> None:
        del job
        if not times:
            times.append(time.time())

    pgq.entrypoint("perform")(perform)
    await pgq.run(batch_size=_BATCH, mode=QueueExecutionMode.drain)
    json.dump([*times[:1], time.time()], sys.stdout)


def main() -> None:
    """Run one command; the job comes by standard input."""
    command, *rest = sys.argv[1:]
    commands: dict[str, Callable[[], Awaitable[None]]] = {
        "install": install,
        "drain": drain,
        "enqueue": lambda: enqueue(int(rest[0]), sys.stdin.buffer.read()),
        "fill": lambda: fill(int(rest[0]), sys.stdin.buffer.read()),
    }
    asyncio.run(_run(commands[command]))


async def _run(command: Callable[[], Awaitable[None]]) -> None:
    await command()


if __name__ == "__main__":
    main()
