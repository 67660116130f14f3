"""A Redis that lost everything is filled again from PostgreSQL: what waits, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
import pytest
import redis
from tests.deploy.installed import Installed, installed

from csb_core import requests
from csb_core.cache import StatusCache
from csb_core.db import open_pool
from csb_core.queue import Queue
from csb_core.testing import make_draft, make_tenant
from csb_core.worker.rescuer import MARGIN, Rescuer

WAITING: Final = 5_000


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Installed]:
    with installed(tmp_path) as found:
        found.migrate()
        yield found


def accept(stores: Installed, tenant: UUID, count: int) -> set[UUID]:
    """Accept requests as the API does, but for the ring: a lost Redis is one that lost it."""
    drafts = [make_draft(tenant) for _ in range(count)]
    with psycopg.connect(stores.url("csb-api-service"), autocommit=True) as conn:
        for first in range(0, count, 500):
            requests.insert(conn, drafts[first : first + 500])
    return {draft.correlation_id for draft in drafts}


def dealt(queue: Queue) -> list[bytes]:
    """Every message there is, taken as a worker takes them."""
    found: list[bytes] = []
    while True:
        deal = queue.deal(500)
        found += deal.messages
        if not deal.messages and not deal.left:
            return found


def test_a_lost_redis_is_filled_again(stores: Installed) -> None:
    """All keys go, with thousands waiting; one worker's rescuer rings for every one of them."""
    admin = stores.url("csb-csbctl", "CSB_ADMIN_DATABASE_URL")
    tenants = [make_tenant(admin) for _ in range(3)]
    waiting = set.union(*(accept(stores, tenant, WAITING // 3) for tenant in tenants))
    time.sleep(MARGIN.total_seconds())

    url = stores.url("csb-worker-aws", "CSB_REDIS_URL")
    with (
        redis.Redis.from_url(url) as client,
        closing(
            open_pool(
                stores.url("csb-worker-aws"),
                name="csb-worker-aws",
                least=1,
                most=2,
                timeout=timedelta(seconds=5),
            )
        ) as pool,
    ):
        for key in client.scan_iter(count=1000):
            client.delete(key)
        queue = Queue(client, "aws")
        assert queue.depth() == 0
        rescuer = Rescuer(
            pool=pool,
            queue=queue,
            cache=StatusCache(client, budget_bytes=2**28),
            worker="w",
            every=timedelta(seconds=1),
            stop=threading.Event(),
        )
        began = time.monotonic()
        while queue.depth() < len(waiting):
            assert time.monotonic() < began + 60, f"{queue.depth()} of {len(waiting)} are back"
            rescuer.run_once()
        took = time.monotonic() - began
        print(f"\n{len(waiting)} messages are back after {took:.1f} s")

        rung = dealt(queue)
        assert len(rung) == len(waiting), "each once"
        text = b"".join(rung)
        assert all(str(one).encode() in text for one in waiting)
