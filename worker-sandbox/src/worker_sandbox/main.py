"""The sandbox worker's process; gunicorn loads `app` from here, in each worker after the fork."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from csb_core import queue
from csb_core.cache import StatusCache
from csb_core.config import load
from csb_core.worker import main as worker
from worker_sandbox.catalogue import build_actions
from worker_sandbox.code_cache import CodeCache
from worker_sandbox.keeper import UNEXAMINED, Keeper
from worker_sandbox.meter import Meter
from worker_sandbox.settings import SandboxWorkerSettings, load_jail_settings

PROVIDER: Final = "sandbox"


def create() -> worker.WorkerProcess:
    """Build the worker; nothing is claimed before its `start`. Raises ConfigurationError."""
    jails = load_jail_settings()
    keeper = Keeper(settings=jails, meter=Meter(most_series=jails.metric_series))
    keeper.open()  # first of all: its zygote is exec'd by a process without threads or connections

    settings = load(SandboxWorkerSettings)
    pool = worker.pool_of(PROVIDER, settings)
    client = queue.connect(settings.redis_url.get_secret_value(), timeout=timedelta(seconds=1))
    keeper.tell(client)
    codes = CodeCache(
        pool=pool,
        redis=client,
        most_bytes=jails.cache_bytes,
        ttl=timedelta(seconds=jails.cache_seconds),
        has_room=StatusCache(client, budget_bytes=settings.cache_budget_bytes).has_room,
    )
    actions = build_actions(keeper, codes)
    process = worker.create(
        PROVIDER, actions, settings, probe=keeper.probe, pool=pool, companion=keeper
    )
    process.fitness.begin_unfit(UNEXAMINED)
    return process


app = create()
