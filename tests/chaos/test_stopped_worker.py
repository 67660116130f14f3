"""A worker that is stopped past its lease and goes on later: it writes nothing, anywhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from tests.chaos import proof
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


@pytest.mark.parametrize("operation", ["ListAttachedUserPolicies", "AttachUserPolicy"])
def test_stopped_worker(platform: Platform, operation: str) -> None:
    """Stopped before its write to AWS or inside it; another finishes meanwhile.

    The audit shows one end and one refused write, and no reader sees a step back.
    """
    client = platform.client()
    body = client.new_body()
    name = body["principal"]["name"]
    platform.aws(
        "POST",
        "faults",
        {"operation": operation, "kind": "latency", "seconds": 1, "principal": name},
    )
    with watched(client, for_ever=True) as watch:
        asked = client.ask(body)
        until(
            lambda: not platform.aws("GET", "faults")["faults"],
            timedelta(seconds=10),
            "AWS has begun to dawdle",
        )
        pid = owner(platform, asked)
        with stopped(pid):
            proof.await_ends(platform, timedelta(seconds=20))
            ended = proof.trails(platform, [asked.key])[asked.key]
            assert owner(platform, asked) != pid
        until(
            lambda: proof.trails(platform, [asked.key])[asked.key].stale,
            timedelta(seconds=15),
            "the stale write is refused",
        )

    late = proof.trails(platform, [asked.key])[asked.key]
    assert (late.version, late.targets, late.attempt) == (ended.version, ended.targets, 2)
    assert late.stale == 1
    assert processes.alive(pid), "the late worker goes on with other work"
    proof.close(platform, [asked], limit=timedelta(seconds=5))
    proof.require_effects(platform, [asked])
    policy = body["parameters"]["policy_arn"]
    log = platform.aws("GET", "log", subject=name, policy_arn=policy)
    assert log["calls"] == {"AttachUserPolicy": 1}, "the late worker has touched AWS again"

    told = client.show(asked.correlation_id, "/audit").document["items"]
    assert [one["event"] for one in told].count("stale_write_rejected") == 1
    assert [one["to_status"] for one in told].count("SUCCESS") == 1
    assert watch.hits > 20
