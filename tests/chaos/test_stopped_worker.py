"""A worker that is stopped past its lease and goes on later: it writes nothing, anywhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from tests.chaos import proof
from tests.chaos.client import Asked
from tests.chaos.patience import until
from tests.chaos.platform import Platform
from tests.chaos.test_in_flight import owner
from tests.chaos.watching import watched

from csb_core.local import processes

pytestmark = pytest.mark.chaos


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def dawdle(platform: Platform, operation: str, principal: str, seconds: float) -> None:
    """Let AWS take that long for its next answer to this call."""
    fault = {"operation": operation, "kind": "latency", "principal": principal, "seconds": seconds}
    platform.aws("POST", "faults", fault)


def await_dawdling(platform: Platform, left: int = 0) -> None:
    until(
        lambda: len(platform.aws("GET", "faults")["faults"]) == left,
        timedelta(seconds=15),
        "AWS has begun to dawdle",
    )


def await_refused(platform: Platform, asked: Asked) -> proof.Trail:
    """The request's trail, once a stale write stands in its audit."""
    until(
        lambda: proof.trails(platform, [asked.key])[asked.key].stale,
        timedelta(seconds=15),
        "the stale write is refused",
    )
    return proof.trails(platform, [asked.key])[asked.key]


@pytest.mark.parametrize("operation", ["ListAttachedUserPolicies", "AttachUserPolicy"])
def test_woken_after_the_end(platform: Platform, operation: str) -> None:
    """Stopped before its write to AWS or inside it; another finishes meanwhile.

    The audit shows one end and one refused write, and no reader sees a step back.
    """
    client = platform.client()
    body = client.new_body()
    name = body["principal"]["name"]
    dawdle(platform, operation, name, 1)
    with watched(client, for_ever=True) as watch:
        asked = client.ask(body)
        await_dawdling(platform)
        pid = owner(platform, asked)
        with stopped(pid):
            proof.await_ends(platform, timedelta(seconds=20))
            ended = proof.trails(platform, [asked.key])[asked.key]
            assert owner(platform, asked) != pid
        late = await_refused(platform, asked)

    assert (late.version, late.targets, late.attempt) == (ended.version, ended.targets, 2)
    assert late.stale == 1
    assert processes.alive(pid), "the late worker goes on with other work"
    assert watch.hits > 20
    proof.close(platform, [asked], limit=timedelta(seconds=5))
    proof.require_effects(platform, [asked])
    log = platform.aws("GET", "log", subject=name, policy_arn=body["parameters"]["policy_arn"])
    assert log["calls"] == {"AttachUserPolicy": 1}, "the late worker has touched AWS again"

    told = client.show(asked.correlation_id, "/audit").document["items"]
    assert [one["event"] for one in told].count("stale_write_rejected") == 1
    assert [one["to_status"] for one in told].count("SUCCESS") == 1


def test_woken_while_another_works(platform: Platform) -> None:
    """Both hold the request now, by their own account; only the newer token may write."""
    client = platform.client()
    body = client.new_body()
    name = body["principal"]["name"]
    dawdle(platform, "ListAttachedUserPolicies", name, 0.5)
    dawdle(platform, "ListAttachedUserPolicies", name, 2.5)
    with watched(client, for_ever=True):
        asked = client.ask(body)
        await_dawdling(platform, left=1)
        with stopped(owner(platform, asked)):
            await_dawdling(platform)
        late = await_refused(platform, asked)
        twice_begun = ["PENDING", "IN_PROGRESS", "PENDING", "IN_PROGRESS"]
        assert late.targets == twice_begun, "the late worker has written over the other's lease"
        account = proof.close(platform, [asked], limit=timedelta(seconds=20))

    proof.require_effects(platform, [asked])
    assert (account.attempts, account.stale) == ({2: 1}, 1)
