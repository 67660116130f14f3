"""How soon a killed worker's requests run again, at the settings that everybody gets."""

from __future__ import annotations

import random
import statistics
import time
from datetime import timedelta

import pytest
from tests.chaos import proof
from tests.chaos.conftest import Make
from tests.chaos.held import PLAYING, await_rerun, closed_gate, hold, holds
from tests.chaos.patience import until
from tests.chaos.platform import Platform
from tests.chaos.service import kill

pytestmark = pytest.mark.chaos

PROMISED = 10.0
PER_PROCESS = 6


@pytest.fixture(scope="module")
def untuned(new_platform: Make) -> Platform:
    """A platform with nothing set: two workers of two processes."""
    platform = new_platform()
    platform.add_api()
    for name in ("worker-a", "worker-b"):
        platform.add_worker(name, app=PLAYING)
    platform.await_ready()
    return platform


def kill_three_of_four(platform: Platform) -> list[float]:
    """Kill three processes, a little apart; return after how long each of their requests ran."""
    client = platform.client()
    with closed_gate(platform):
        asked = hold(platform, client, 4 * PER_PROCESS)
        keys = [one.key for one in asked]
        before = holds(platform, keys)
        pids = sorted({one.pid for one in before.values()})
        killed: dict[int, float] = {}
        for pid in random.sample(pids, k=min(3, len(pids))):
            time.sleep(random.uniform(0, 1.5))
            killed[pid] = time.time()
            kill(pid)

        lost = [key for key, one in before.items() if one.pid in killed]
        assert lost
        await_rerun(platform, lost, timedelta(seconds=30))
        after = holds(platform, lost)
    proof.close(platform, asked, limit=timedelta(seconds=30))
    return [after[key].since - killed[before[key].pid] for key in lost]


def tell(measured: list[float]) -> None:
    """Print the figures, and hold them against the promise."""
    cuts = statistics.quantiles(measured, n=100, method="inclusive")
    print(
        f"\nrunning again after a kill -9, {len(measured)} requests: p50 {cuts[49]:.2f} s, "
        f"p99 {cuts[98]:.2f} s, longest {max(measured):.2f} s"
    )
    assert max(measured) < PROMISED


def test_recovery(untuned: Platform) -> None:
    tell(kill_three_of_four(untuned))


@pytest.mark.chaos_long
@pytest.mark.timeout(600)
def test_recovery_many_times(untuned: Platform) -> None:
    measured: list[float] = []
    for _ in range(12):
        untuned.await_ready()
        until(
            lambda: sum(len(one.processes()) for one in untuned.services.values()) == 6,
            timedelta(seconds=20),
            "all processes are back",
        )
        measured += kill_three_of_four(untuned)
    tell(measured)
