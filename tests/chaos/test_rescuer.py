"""The rescuer beside a long backlog, and beside one of its own kind that does not move."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

import pytest
from tests.chaos import proof
from tests.chaos.conftest import Make
from tests.chaos.held import PLAYING, await_rerun, closed_gate, hold, holds, post_backlog
from tests.chaos.patience import until
from tests.chaos.platform import BRISK, Platform
from tests.chaos.service import kill

from csb_core import keys
from csb_core.queue import decode
from csb_core.worker.rescuer import HIGH_WATER, MARGIN, MOST

pytestmark = [pytest.mark.chaos, pytest.mark.chaos_long, pytest.mark.timeout(1200)]

PROCESSES = 3
SLOTS = 16


@pytest.fixture(scope="module")
def narrow(new_platform: Make) -> Platform:
    """A platform whose worker has few slots, so that a test can fill them all."""
    platform = new_platform()
    platform.add_api()
    settings = {
        **BRISK,
        "CSB_PROCESSES": str(PROCESSES),
        "CSB_SLOTS": str(SLOTS),
        "CSB_TENANT_PORTION": "1",
    }
    platform.add_worker(app=PLAYING, **settings)
    platform.await_ready()
    return platform


def watch_depth(platform: Platform, seconds: float) -> int:
    """The greatest depth of the list within that time."""
    ends = time.monotonic() + seconds
    greatest = 0
    while time.monotonic() < ends:
        greatest = max(greatest, platform.depth())
        time.sleep(0.05)
    return greatest


def ids_that_stand(platform: Platform) -> list[str]:
    with platform.bell() as redis:
        lists = [keys.queue("aws"), *redis.scan_iter(keys.tenants_queues("aws") + "*")]
        messages = [raw for name in lists for raw in cast("list[bytes]", redis.lrange(name, 0, -1))]
    return [str(decode(raw).correlation_id) for raw in messages]


@pytest.mark.parametrize("rows", [4_000, 200_000])
def test_backlog_is_not_doubled(narrow: Platform, rows: int) -> None:
    """Neither while the list stands, nor when it was lost; and in the end each was done once."""
    narrow.await_ready()
    client = narrow.client()
    with narrow.truth() as conn:
        (began,) = conn.execute("SELECT now()").fetchone() or (None,)
    with closed_gate(narrow):
        hold(narrow, client, PROCESSES * SLOTS)
        post_backlog(client, rows)
        assert narrow.depth() == rows
        several_passes = 2 * MARGIN.total_seconds()
        assert watch_depth(narrow, several_passes) == rows

        with narrow.bell() as redis:
            redis.flushall()
        refilled = min(rows, HIGH_WATER)
        until(lambda: narrow.depth() >= refilled, timedelta(seconds=30), "the list is rung anew")
        assert watch_depth(narrow, several_passes) <= min(rows, HIGH_WATER + MOST)
        rung = ids_that_stand(narrow)
        assert len(rung) == len(set(rung))
    proof.await_ends(narrow, timedelta(seconds=rows / 300 + 30))

    with narrow.truth() as conn:
        ends = conn.execute(
            """
            SELECT status, attempt, count(*)
              FROM csb_app.csb_requests
             WHERE created_at >= %s
             GROUP BY status, attempt
            """,
            (began,),
        ).fetchall()
    everything = rows + PROCESSES * SLOTS
    assert ends == [("SUCCESS", 1, everything)]
    effects = (narrow.folder / "effects").read_text().split()
    assert len(effects) == len(set(effects)) >= everything
    until(lambda: narrow.depth() == 0, timedelta(seconds=5), "the list is empty")


def test_rescuer_stopped_before_it_tells(narrow: Platform) -> None:
    """It has marked rows as rung and has not rung: others ring after the margin."""
    client = narrow.client()
    narrow.orders.clear()
    with closed_gate(narrow):
        asked = hold(narrow, client, 6)
        before = holds(narrow, [one.key for one in asked])
        victim = next(iter(before.values())).pid
        narrow.orders.stop("rescuer-telling")
        kill(victim)
        stopped = narrow.orders.await_taken("rescuer-telling")
        try:
            lost = [key for key, one in before.items() if one.pid in (victim, stopped)]
            await_rerun(narrow, lost, timedelta(seconds=15))
        finally:
            os.kill(stopped, signal.SIGCONT)
    proof.close(narrow, client.asked, limit=timedelta(seconds=30))


@pytest.mark.parametrize("arn_length", [0, 1900])
def test_rescuer_stopped_inside_its_statement(narrow: Platform, arn_length: int) -> None:
    """PostgreSQL has to answer somebody who does not listen; nobody else waits for that.

    The long ARNs make the answer longer than what fits between the two.
    """
    client = narrow.client()
    narrow.orders.clear()
    with closed_gate(narrow):
        hold(narrow, client, PROCESSES * SLOTS)
        post_backlog(client, MOST, arn_length=arn_length)
        deaf, *others = narrow.services["worker"].processes()
        with stopped(*others):
            stop_inside(narrow, "rescuer-asking")
    try:
        proof.await_ends(narrow, timedelta(seconds=90))
    finally:
        os.kill(deaf, signal.SIGCONT)
    proof.close(narrow, client.asked, limit=timedelta(seconds=30))


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def stop_inside(platform: Platform, point: str) -> None:
    """Stop the process at this point while its statement waits; it finds everything to be rung."""
    with platform.truth() as conn, conn.transaction():
        conn.execute("LOCK TABLE csb_app.csb_requests IN ACCESS EXCLUSIVE MODE")
        platform.orders.stop(point, delay=0.2)
        platform.orders.await_taken(point)
        time.sleep(0.4)
        with platform.bell() as redis:
            redis.flushall()
        conn.execute(
            """
            UPDATE csb_app.csb_requests
               SET rung_at = rung_at - interval '1 minute'
             WHERE status = 'PENDING'
            """
        )
    time.sleep(0.5)
