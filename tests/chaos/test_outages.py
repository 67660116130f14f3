"""Redis and PostgreSQL go away under load: nothing is lost, no answer lies, all recover.

Every caller asks once. Afterwards each is called to account: 202 must be done, 503 without
`outcome_unknown` must not be stored, and nothing else may have been said.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from tests.chaos import proof
from tests.chaos.client import Client
from tests.chaos.patience import until
from tests.chaos.platform import Platform
from tests.chaos.tiers import long_form
from tests.chaos.watching import loaded, watched

from csb_core.local.postgres import Mode

pytestmark = pytest.mark.chaos

ENDED = timedelta(seconds=60)
BEFORE = AFTER = 0.5
PER_SECOND = 8


#: How long the API waits for a connection before it says 503.
POOL_PATIENCE = 3


@contextmanager
def under_load(platform: Platform) -> Iterator[Client]:
    """Load and readers around the block; then all is accounted for, by the same processes."""
    client = platform.client()
    ours = [service.processes() for service in platform.services.values()]
    with watched(client, readers=1, pause=0.03, for_ever=True) as watch:
        with loaded(client, per_second=PER_SECOND):
            time.sleep(BEFORE)
            yield client
            time.sleep(AFTER)
        account = proof.close(platform, client.asked, limit=ENDED)
    proof.require_effects(platform, client.asked)
    assert [service.processes() for service in platform.services.values()] == ours
    assert account.unanswered == 0
    assert watch.reads > 10
    slowest = max(asked.answer.seconds for asked in client.asked)
    print(f"\n{account}; slowest answer {slowest:.1f} s; {watch.reads} reads, {watch.hits} hits")


def test_redis_flushed(platform: Platform) -> None:
    with under_load(platform) as client, platform.bell() as redis:
        for _ in range(5):
            redis.flushall()
            time.sleep(0.3)
    assert {asked.answer.status for asked in client.asked} == {202}


@pytest.mark.parametrize("seconds", [5, long_form(30)])
def test_redis_down(platform: Platform, seconds: float) -> None:
    """Requests are accepted as before, and quickly; the probe tells what is amiss."""
    with under_load(platform) as client:
        until_down = time.monotonic()
        platform.stop_redis()
        while time.monotonic() < until_down + seconds:
            told = client.call("GET", "/ready", None)
            assert (told.status, told.document["status"]) == (200, "degraded")
            time.sleep(0.5)
        platform.start_redis()
    assert {asked.answer.status for asked in client.asked} == {202}
    assert max(asked.answer.seconds for asked in client.asked) < 5
    until(lambda: platform.depth() == 0, ENDED, "the new list is worked off")


@pytest.mark.chaos_long
def test_redis_hangs(platform: Platform) -> None:
    """It keeps its connections and says nothing for a while, then goes on with old statuses."""
    with under_load(platform) as client:
        for _ in range(2):
            os.kill(platform.redis.pid, signal.SIGSTOP)
            time.sleep(1.2)
            os.kill(platform.redis.pid, signal.SIGCONT)
            time.sleep(0.5)
    assert {asked.answer.status for asked in client.asked} == {202}


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [
        ("fast", 0.5),
        ("immediate", 3.5),
        long_form("fast", 30),
        long_form("immediate", 30),
    ],
)
def test_postgres_restarted(platform: Platform, mode: Mode, seconds: float) -> None:
    """Who cannot wait so long is told that nothing was stored; nothing that was stored is lost."""
    with under_load(platform) as client:
        platform.restart_postgres(mode, pause=seconds)
        until(platform.api.is_ready, timedelta(seconds=30), "the API is ready again")
    statuses = [asked.answer.status for asked in client.asked]
    assert set(statuses) <= {202, 503}
    assert 503 in statuses or seconds < POOL_PATIENCE
    assert statuses[-1] == 202
