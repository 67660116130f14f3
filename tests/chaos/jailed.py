"""A platform whose worker runs utils in real jails, and tenants who have some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.chaos.client import REQUESTS, Answer, Client
from tests.chaos.platform import BRISK, Platform

from csb_core.local import processes
from csb_core.testing import make_api_key, make_tenant, make_util

#: What the one process executes at once.
SLOTS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """A tenant with utils of its own; what the validator would say of them is not asked."""

    database: str
    tenant_id: UUID
    client: Client

    def util(self, code: str, **config: float) -> UUID:
        """An active util of this code."""
        limits = {"timeout_seconds": 30, "memory_limit_mb": 64, "cpu_limit": 1.0, **config}
        return make_util(self.database, self.tenant_id, code, execution_config=limits)

    def run(self, util: UUID, given: Any) -> Answer:
        """Have it run, and wait for its end."""
        path = f"/api/v1/utils/{util}/execute?wait=30"
        return self.client.call("POST", path, {"input": given})

    def order(self, runs: Sequence[tuple[str, UUID, Any]]) -> None:
        """Have utils run under these keys, in one call; nobody waits for them."""
        bodies = [
            {
                "cloud_provider": "sandbox",
                "action": "run_util",
                "client_request_id": key,
                "parameters": {"util_id": str(util), "input": given},
            }
            for key, util, given in runs
        ]
        answer = self.client.call("POST", f"{REQUESTS}/batch", {"requests": bodies})
        assert answer.document["accepted"] == len(runs), answer


@contextmanager
def jailed(make: Callable[[], Platform]) -> Iterator[Platform]:
    """A platform of an API and one process that runs utils; it ends with the block."""
    platform = make()
    try:
        platform.add_api()
        platform.add_worker(
            "sandbox",
            app="worker_sandbox.main:app",
            **{
                **BRISK,
                "CSB_DATABASE_URL": platform.database.sandbox,
                "CSB_PROCESSES": "1",
                "CSB_SLOTS": str(SLOTS),
            },
        )
        platform.await_ready()
        yield platform
    finally:
        platform.end()


def author(platform: Platform) -> Author:
    """A tenant that has nothing yet."""
    tenant_id = make_tenant(platform.database.admin)
    token = make_api_key(platform.database.admin, tenant_id)
    return Author(
        database=platform.database.api,
        tenant_id=tenant_id,
        client=replace(platform.client(), token=token),
    )


def came_of(platform: Platform, tenant: Author) -> dict[str, Any]:
    """The result of each of its requests that have ended, by its key."""
    with platform.truth() as conn:
        rows = conn.execute(
            """
            SELECT client_request_id, result
              FROM csb_app.csb_requests
             WHERE tenant_id = %s
               AND client_request_id IS NOT NULL
               AND finished_at IS NOT NULL
            """,
            (tenant.tenant_id,),
        )
        return dict(rows.fetchall())


def family(pid: int) -> list[int]:
    """Every process below this one that is alive: zygotes and jails."""
    try:
        lists = [path.read_text() for path in Path("/proc").glob(f"{pid}/task/*/children")]
    except OSError:
        return []
    below = [int(one) for pids in lists for one in pids.split()]
    alive = [one for one in below if processes.alive(one)]
    return alive + [deeper for one in alive for deeper in family(one)]
