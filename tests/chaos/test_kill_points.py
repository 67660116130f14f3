"""kill -9 at every step of the line: what was accepted ends, takes effect once, and is proven."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from tests.chaos import points, proof
from tests.chaos.client import Asked, Client
from tests.chaos.patience import until
from tests.chaos.platform import Platform
from tests.chaos.tiers import long_form
from tests.chaos.watching import Readers, watched

pytestmark = pytest.mark.chaos

ENDED = timedelta(seconds=40)
AT_ONCE = 6
#: The blow before the write to AWS differs from the one after the claim only in what was read.
OF_WORKER = [
    long_form(point.name) if point.name == "worker-acting" else point.name
    for point in points.WORKER
    if point.name.startswith("worker")
]


def ask_at_once(client: Client, count: int = AT_ONCE) -> list[Asked]:
    with ThreadPoolExecutor(count) as pool:
        return [call.result() for call in [pool.submit(client.attach) for _ in range(count)]]


def await_seen(watch: Readers) -> None:
    """A status that was cached before its worker died may be shown for a few seconds more."""
    until(
        lambda: {status for _, status in watch.shown.values()} == {"SUCCESS"},
        timedelta(seconds=10),
        "readers see every end",
    )


@pytest.mark.parametrize("point", [point.name for point in points.API])
def test_api_killed(platform: Platform, point: str) -> None:
    """A caller without an answer finds the request stored or not, and repeats it safely."""
    client = platform.client()
    platform.orders.kill(point)
    asked = ask_at_once(client)
    platform.orders.await_taken(point)
    asked += ask_at_once(client, 2)

    account = proof.close(platform, asked, limit=ENDED)
    assert account.stored_unanswered >= 1, "nobody's caller was left without an answer"
    proof.require_effects(platform, asked)

    stored = proof.trails(platform, [one.key for one in asked])
    for one in asked:
        again = client.ask(one.body)
        assert again.answer.status == (200 if one.key in stored else 202), again
        assert one.key not in stored or again.correlation_id == stored[one.key].correlation_id
    proof.close(platform, client.asked, limit=ENDED)
    proof.require_effects(platform, asked)


def test_api_loses_acknowledgement(platform: Platform) -> None:
    """Committed, and the connection breaks: the API looks, finds its row, and says 202 truly."""
    client = platform.client()
    platform.orders.hang_up("api-committed")
    asked = ask_at_once(client)
    platform.orders.await_taken("api-committed")

    assert [one.answer.status for one in asked] == [202] * AT_ONCE
    account = proof.close(platform, asked, limit=ENDED)
    assert account.attempts == {1: AT_ONCE}
    proof.require_effects(platform, asked)


@pytest.mark.parametrize("point", OF_WORKER)
def test_worker_killed(platform: Platform, point: str) -> None:
    """Whatever the worker had in hand is done by another, once; no reader sees a step back."""
    client = platform.client()
    platform.orders.kill(point)
    with watched(client) as watch:
        asked = ask_at_once(client)
        platform.orders.await_taken(point)
        account = proof.close(platform, asked, limit=ENDED)
        await_seen(watch)

    assert account.accepted == AT_ONCE
    proof.require_effects(platform, asked)
    assert len(watch.shown) == AT_ONCE


@pytest.mark.parametrize("point", [long_form("worker-claimed"), "worker-recorded"])
def test_worker_loses_acknowledgement(platform: Platform, point: str) -> None:
    """A claim whose answer is lost runs out; a record whose answer is lost is not made again."""
    client = platform.client()
    platform.orders.hang_up(point)
    with watched(client) as watch:
        asked = ask_at_once(client)
        platform.orders.await_taken(point)
        account = proof.close(platform, asked, limit=ENDED)
        await_seen(watch)

    proof.require_effects(platform, asked)
    assert account.stale == 0
    assert (account.rescued > 0) == (point == "worker-claimed")
