"""kill -9 of a gunicorn master: what it leaves behind ends by itself, and says nothing untrue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from tests.chaos import proof
from tests.chaos.client import Asked, Client
from tests.chaos.patience import until
from tests.chaos.platform import Platform
from tests.chaos.service import kill
from tests.chaos.test_in_flight import start_slow
from tests.chaos.tiers import long_form
from tests.chaos.watching import loaded, watched

from csb_core.local import processes

pytestmark = pytest.mark.chaos

ENDED = timedelta(seconds=60)


@contextmanager
def waiting(client: Client, asked: Asked, how_many: int) -> Iterator[None]:
    """Long polls during the block; each is answered truly, or not at all."""
    with ThreadPoolExecutor(how_many) as pool:
        polls = [
            pool.submit(client.show, asked.correlation_id, "?wait=20") for _ in range(how_many)
        ]
        yield
    answers = [poll.result() for poll in polls]
    assert {answer.status for answer in answers} <= {200, None}, answers


@pytest.mark.parametrize("name", ["api", long_form("worker")])
def test_master_killed(platform: Platform, name: str) -> None:
    """A supervisor starts another at once, while the orphans still serve on the same port."""
    service = platform.services[name]
    client = platform.client()
    slow = start_slow(platform, client, seconds=5)
    with waiting(client, slow, 8), watched(client), loaded(client, per_second=20):
        time.sleep(0.5)
        orphans = service.processes()
        kill(service.pid)
        time.sleep(0.2)
        service.start()
        service.await_ready()
        until(lambda: not any(map(processes.alive, orphans)), ENDED, "the orphans have ended")
        time.sleep(0.5)
    proof.close(platform, client.asked, limit=ENDED)
    proof.require_effects(platform, client.asked)
