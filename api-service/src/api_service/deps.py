"""Everything that a view may reach, opened once per process and handed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import redis
from flask import Flask

from api_service.auth import KeyRing
from api_service.bell import Bell
from api_service.catalogue import Catalogue
from api_service.circuit import Circuit
from api_service.forgetting import Forgetter
from api_service.hearing import Hearing
from api_service.limits import Limits
from api_service.outage import OutagePool
from api_service.reading import Reader
from api_service.submitter import Submitter
from api_service.ticker import Ticker
from api_service.util_shelf import Shelf
from api_service.waiting import Waiting
from csb_core import contract, db, metrics, queue
from csb_core.cache import StatusCache
from csb_core.config import ApiSettings
from csb_core.contract import Contract
from csb_core.db import Pool
from csb_core.lint import Validator
from csb_core.queue import Queue

#: A Redis that takes longer than this is as good as down: the POST must not wait for it.
_REDIS_TIMEOUT = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """What the views work with."""

    settings: ApiSettings
    contract: Contract
    pool: Pool
    redis: redis.Redis
    queues: dict[str, Queue]
    keyring: KeyRing
    limits: Limits
    submitter: Submitter
    reader: Reader
    waiting: Waiting
    catalogue: Catalogue
    hearing: Hearing
    validator: Validator
    forgetter: Forgetter
    tickers: tuple[Ticker, ...]

    @property
    def is_advisory(self) -> bool:
        """Whether the validator only advises: what it refuses is stored, and may run."""
        return self.settings.util_validation == "advisory"

    def end_waits_when(self, is_ending: Callable[[], bool]) -> None:
        """Answer every long poll as soon as the process is about to end."""
        Ticker(
            "end-waits",
            every=timedelta(milliseconds=500),
            once=lambda: self.waiting.end() if is_ending() else None,
        ).start()

    def close(self) -> None:
        """End the background roles and let go of every connection."""
        self.waiting.stop()
        self.hearing.stop()
        for ticker in self.tickers:
            ticker.stop()
        self.pool.close()
        self.redis.close()


def open_deps(app: Flask, settings: ApiSettings, rules: Contract | None = None) -> Deps:
    """Open what the app needs; comes back at once, also when PostgreSQL or Redis is away."""
    rules = rules or contract.load(Path(settings.schema_path) if settings.schema_path else None)
    pool = db.open_pool(
        settings.database_url.get_secret_value(),
        name=settings.service,
        least=settings.pool_min,
        most=settings.pool_max,
        timeout=timedelta(seconds=settings.pool_timeout_seconds),
        prepare=settings.database_prepare,
        kind=OutagePool,
    )
    client = queue.connect(settings.redis_url.get_secret_value(), timeout=_REDIS_TIMEOUT)
    circuit = Circuit()
    queues = {provider: Queue(client, provider) for provider in rules.providers}
    cache = StatusCache(client, settings.cache_budget_bytes)
    keyring = KeyRing(pool)
    limits = Limits(app, settings, client, circuit)
    forgetter = Forgetter(cache)
    catalogue = Catalogue(pool, Shelf(client, cache, circuit))
    deps = Deps(
        settings=settings,
        contract=rules,
        pool=pool,
        redis=client,
        queues=queues,
        keyring=keyring,
        limits=limits,
        submitter=Submitter(pool, Bell(queues, circuit)),
        reader=Reader(cache, pool, circuit),
        waiting=Waiting(client, most=settings.max_waiters),
        catalogue=catalogue,
        hearing=Hearing(client, catalogue),
        validator=Validator(at_once=settings.util_validators),
        forgetter=forgetter,
        tickers=(
            Ticker("share-limits", every=timedelta(milliseconds=100), once=limits.counters.share),
            Ticker("note-keys-used", every=timedelta(seconds=5), once=keyring.note_use),
            Ticker("forget-statuses", every=timedelta(milliseconds=500), once=forgetter.run_once),
            Ticker("tell-of-utils", every=timedelta(milliseconds=500), once=catalogue.say_again),
            Ticker("observe-pool", every=timedelta(seconds=5), once=lambda: _observe(pool)),
        ),
    )
    deps.waiting.start()
    deps.hearing.start()
    for ticker in deps.tickers:
        ticker.start()
    return deps


def _observe(pool: Pool) -> None:
    metrics.observe_pool(pool.name, pool.get_stats())
