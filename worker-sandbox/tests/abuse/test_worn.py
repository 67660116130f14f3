"""What shows only after many: each case two hundred times, and ten thousand honest executions."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor

import pytest

from abuse import snapshot
from abuse.arena import Arena
from abuse.attacks import CASES
from abuse.case import LIMITS, Case
from worker_sandbox.job import Job

REPEATED = 200
EXECUTIONS = 10_000
SLOTS = 4
# Those that last until their deadline would take hours, and differ in nothing after a few times.
REPEATED_AT_DEADLINE = 10

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.worn
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_changes_nothing_however_often(case: Case, arena: Arena) -> None:
    job = case.job(arena.world.told())
    first = arena.sandbox.run(job)
    times = REPEATED if first.wall_ms < 200 else REPEATED_AT_DEADLINE
    before = arena.neighbour.pace()

    def once(_: int) -> None:
        run = arena.sandbox.run(job)  # looked at where it came: nobody gathers large values
        arena.look_at(run)
        assert run.exit_reason in case.ends, run

    with arena.watched(crowded=True), ThreadPoolExecutor(SLOTS) as pool:
        for _ in pool.map(once, range(times)):
            pass

    after = arena.neighbour.pace()
    assert after <= 2 * before + 0.05, f"executions were {before:.3f} s, and are {after:.3f} s"


@pytest.mark.slow
def test_ten_thousand_executions_leave_the_worker_as_it_was(arena: Arena) -> None:
    job = Job(
        kind="transformer", code="def transform(data):\n    return data", input=7, limits=LIMITS
    )
    resident = [snapshot.rss_kb()]
    with arena.watched(crowded=True), ThreadPoolExecutor(SLOTS) as pool:
        for _ in range(10):
            runs = pool.map(arena.sandbox.run, [job] * (EXECUTIONS // 10))
            assert all(run.value == 7 for run in runs)
            resident.append(snapshot.rss_kb())

    # The first tenth warms up; from there on nothing grows.
    grown = resident[-1] - statistics.median(resident[1:4])
    assert grown <= 0.05 * resident[1], resident
