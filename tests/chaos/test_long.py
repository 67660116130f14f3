"""Many requests while a process of ours dies every few seconds: none is lost, none ends twice."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from tests.chaos import proof
from tests.chaos.client import Client
from tests.chaos.conftest import Make
from tests.chaos.monkey import raging
from tests.chaos.platform import Platform
from tests.chaos.watching import watched

pytestmark = pytest.mark.chaos

CALLERS = 8
#: More open requests than this, and the callers hold back: the kills shall meet both halves.
MOST_OPEN = 400


def insist(client: Client) -> None:
    """Ask as a careful caller does: the same again, until there is an answer."""
    body = client.new_body()
    deadline = time.monotonic() + 120
    while not client.ask(body).is_accepted:
        assert time.monotonic() < deadline, body
        time.sleep(0.3)


def ask_for(platform: Platform, client: Client, how_many: int) -> None:
    """Have that many requests accepted, no faster than they are worked off."""
    accepted = 0
    with ThreadPoolExecutor(CALLERS) as pool:
        while accepted < how_many:
            free = min(MOST_OPEN - proof.open_requests(platform), how_many - accepted, 50)
            for call in [pool.submit(insist, client) for _ in range(max(0, free))]:
                call.result()
                accepted += 1
            if free <= 0:
                time.sleep(0.5)


@pytest.mark.chaos_long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how_many", [10_000])
def test_kills_without_end(new_platform: Make, how_many: int) -> None:
    platform = new_platform(users=how_many // 9 + 2)
    platform.add_api()
    for name in ("worker-a", "worker-b"):
        platform.add_worker(name, CSB_SLOTS="16")
    platform.await_ready()

    client = platform.client()
    began = time.monotonic()
    with watched(client, readers=1, pause=0.05):
        with raging(platform, pause=(1.5, 4.5), masters=0.2) as monkey:
            ask_for(platform, client, how_many)
            proof.await_ends(platform, timedelta(seconds=300))
        took = time.monotonic() - began
        account = proof.close(platform, client.asked, limit=timedelta(seconds=120))
    proof.require_effects(platform, client.asked)

    known = proof.trails(platform)
    assert len(known) == how_many
    print(
        f"\n{how_many} requests in {took:.0f} s, {sum(monkey.killed.values())} kills: "
        f"{dict(monkey.killed)}\n{account}\n"
        f"{Counter(trail.losses for trail in known.values())} workers lost per request"
    )
