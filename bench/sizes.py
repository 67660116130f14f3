"""How long and how much: every measurement is bounded in time and in count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The size of everything that one run does."""

    rounds: int
    #: Closed loops: seconds before the window, and of the window itself.
    warm: float
    window: float
    connections: int = 48
    batch: int = 100
    batch_connections: int = 4
    #: Requests that wait when the drain begins.
    drain: int
    #: Requests of one tenant that wait while another asks for one at a time.
    flood: int
    #: The same where each takes 50 ms.
    slow_flood: int
    #: Open loop: requests a second, and for how long.
    rate: int = 50
    latency: float
    #: Finished requests that are there from the start, and in the database with a history.
    stock: int
    history: int
    kills: int
    pgbench: int
    celery_drain: int
    pgqueuer_enqueue: int
    pgqueuer_drain: int
    huey: int


#: A quarter of an hour on two cores.
FULL: Final = Sizes(
    rounds=3,
    warm=1.5,
    window=4.0,
    drain=30_000,
    flood=60_000,
    slow_flood=8_000,
    latency=10.0,
    stock=40_000,
    history=2_000_000,
    kills=12,
    pgbench=3,
    celery_drain=1_500,
    pgqueuer_enqueue=3_000,
    pgqueuer_drain=30_000,
    huey=10_000,
)

#: A look in less than two minutes; its figures are too short to be quoted.
QUICK: Final = Sizes(
    rounds=1,
    warm=0.5,
    window=1.5,
    drain=5_000,
    flood=15_000,
    slow_flood=3_000,
    latency=4.0,
    stock=12_000,
    history=0,
    kills=2,
    pgbench=1,
    celery_drain=400,
    pgqueuer_enqueue=500,
    pgqueuer_drain=5_000,
    huey=2_000,
)
