"""Wires one worker process: the consumer's threads, and the small app that gunicorn serves."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from typing import Any

from csb_core import db, metrics, queue
from csb_core.cache import StatusCache
from csb_core.config import WorkerSettings, load
from csb_core.db import Pool, open_pool
from csb_core.dealing import tenant_of
from csb_core.errors import QueueUnavailable, StoreUnavailable
from csb_core.worker.action import Action
from csb_core.worker.companion import Companion
from csb_core.worker.doorman import Doorman
from csb_core.worker.executor import Executor
from csb_core.worker.fitness import Fitness, fit
from csb_core.worker.hand import Hand
from csb_core.worker.heartbeat import Heartbeat
from csb_core.worker.intake import Intake, Popped
from csb_core.worker.loop import Event, Loop
from csb_core.worker.messages import Desk
from csb_core.worker.probes import StartResponse, answer, answer_json, readiness
from csb_core.worker.rescuer import Rescuer
from csb_core.worker.slots import Slots

logger = logging.getLogger(__name__)

#: A consumer that has not turned for so long is stuck: its probe says so.
STUCK: timedelta = timedelta(seconds=60)
#: Of the grace period, what is left to record what was given up.
LAST_SECONDS: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    """One process's consumer, and its WSGI app for /health, /ready and /metrics."""

    settings: WorkerSettings
    pool: Pool
    queue: queue.Queue
    loop: Loop
    #: For the only request of a tenant that holds nothing: no flood's batch is before it.
    express: Loop
    intake: Intake
    heartbeat: Heartbeat
    rescuer: Rescuer
    fitness: Fitness
    ended: threading.Event
    companion: Companion | None = None

    def start(self) -> None:
        """Start consuming; call it after the fork."""
        self.loop.executor.start()
        self._thread("doorman", self.intake.doorman.run).start()
        intake = self._thread("intake", self.intake.run)
        for name, run in (
            ("heartbeat", self.heartbeat.run),
            ("rescuer", self.rescuer.run),
            ("fitness", self.fitness.run),
        ):
            self._thread(name, run).start()
        if self.companion:
            self._thread("companion", self.companion.run).start()
        intake.start()
        express = self._thread("express", lambda: self.express.run([intake]))
        express.start()
        self._thread("loop", lambda: self._consume([intake, express])).start()
        loop, slots = self.loop, self.loop.slots.total
        said = {"worker": loop.worker, "queue": self.queue.provider, "slots": slots}
        logger.info("worker.started", extra=said)

    def stop(self) -> None:
        """Pop no more, finish or give back what is in hand, and return when that is done."""
        self.loop.stop.set()
        self.loop.slots.end()
        last = min(LAST_SECONDS, self.settings.grace_seconds / 2)
        if not self.ended.wait(self.settings.grace_seconds - last) and self.companion:
            self.companion.interrupt()
        self.ended.wait(last)
        if self.companion:
            self.companion.stop()
        self.heartbeat.stop.set()
        self.rescuer.stop.set()
        self.pool.close()

    def _consume(self, feeders: Sequence[threading.Thread]) -> None:
        self.loop.run(feeders)
        self.ended.set()
        if self.loop.hand.abandoned():
            os.kill(os.getpid(), signal.SIGTERM)  # gunicorn ends this process and starts another

    @staticmethod
    def _thread(name: str, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except BaseException:
                # Half a consumer is worse than none: its leases run out and are rescued.
                logger.critical("worker.thread_died", exc_info=True, extra={"role": name})
                os._exit(70)

        return threading.Thread(target=guarded, name=name, daemon=True)

    def __call__(
        self, environ: Mapping[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer the probes; /metrics only on the metrics listener."""
        path = environ.get("PATH_INFO", "")
        on_metrics = environ.get("SERVER_PORT") == self.settings.metrics_bind.rpartition(":")[2]
        if path == "/metrics" and on_metrics:
            metrics.observe_pool(self.queue.provider, self.pool.get_stats())
            text = metrics.render(self.read_queues)
            return answer(start_response, "200 OK", metrics.CONTENT_TYPE, text)
        if path == "/health":
            last_turn = min(self.loop.last_turn, self.express.last_turn)
            turning = time.monotonic() - last_turn < STUCK.total_seconds()
            return answer_json(start_response, {"status": "ok" if turning else "stuck"}, ok=turning)
        if path == "/ready":
            checks = self.checks()
            status = readiness(checks)
            body = {"status": status, "checks": checks}
            return answer_json(start_response, body, ok=status != "unready")
        return answer(start_response, "404 Not Found", "text/plain", b"not found\n")

    def checks(self) -> dict[str, str]:
        """Each thing that this worker needs, `ok` or what is wrong with it."""
        checks = {"postgresql": "ok", "redis": "ok", "consumer": "ok", "configuration": "ok"}
        try:
            checks["postgresql"] = db.standing(self.pool)
        except StoreUnavailable as exc:
            checks["postgresql"] = str(exc)
        try:
            self.queue.ping()
        except QueueUnavailable as exc:
            checks["redis"] = str(exc)
        if self.loop.stop.is_set():
            checks["consumer"] = "draining"
        if reason := self.fitness.reason:
            checks["configuration"] = reason
        return checks

    def read_queues(self) -> list[metrics.QueueReading]:
        """Read the provider's list, for /metrics."""
        standing = self.queue.standing()
        oldest = standing.oldest
        return [
            metrics.QueueReading(
                provider=self.queue.provider,
                depth=standing.depth,
                oldest_seconds=max(0.0, time.time() - oldest.timestamp()) if oldest else 0.0,
                tenants=len(standing.backlogs),
            )
        ]


def create(
    provider: str,
    actions: Mapping[str, Action],
    settings: WorkerSettings | None = None,
    *,
    probe: Callable[[], None] = fit,
    pool: Pool | None = None,
    companion: Companion | None = None,
) -> WorkerProcess:
    """Build the worker of a provider; nothing runs before `start`. Raises ConfigurationError.

    `probe` raises ConfigurationError while the worker cannot work for a fault of its own settings.
    `pool` is given where the actions need one as well: `pool_of`.
    """
    settings = settings or load(WorkerSettings)
    worker = f"{provider}:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    pool = pool or pool_of(provider, settings)
    url = settings.redis_url.get_secret_value()
    client = queue.connect(url, timeout=timedelta(seconds=2))
    # Above the block: redis-py would otherwise give up while Redis pops for it.
    popping = queue.connect(url, timeout=timedelta(seconds=settings.block_seconds + 5))
    stop, stop_watch = threading.Event(), threading.Event()
    inbox: SimpleQueue[Event] = SimpleQueue()
    bell = queue.Queue(client, provider)
    slots, hand = Slots(settings.slots), Hand()
    fitness = Fitness(probe=probe, slots=slots, stop=stop_watch)
    cache = StatusCache(client, budget_bytes=settings.cache_budget_bytes)
    metrics.SLOTS.labels(provider).set(settings.slots)

    executor = Executor(
        actions=actions,
        pool=pool,
        ttl=settings.lease,
        misconfigured=fitness.note,
        threads=settings.slots,
    )

    lane = partial(
        Loop,
        worker=worker,
        queue=bell,
        pool=pool,
        cache=cache,
        desk=Desk(pool=pool, provider=provider, worker=worker),
        executor=executor,
        slots=slots,
        hand=hand,
        stop=stop,
        ttl=settings.lease,
    )

    def pass_on(popped: Popped) -> None:
        slots.expect(tenant_of(message) for message in popped.messages)
        inbox.put(popped)

    express = lane(inbox=SimpleQueue(), pass_on=pass_on)
    intake = Intake(
        queue=queue.Queue(popping, provider),
        doorman=Doorman(queue=queue.Queue(popping, provider), called=slots.call),
        slots=slots,
        hand=hand,
        portion=settings.tenant_portion,
        handed=inbox.put,
        ahead=express.inbox.put,
        stop=stop,
        block_seconds=settings.block_seconds,
    )
    return WorkerProcess(
        settings=settings,
        pool=pool,
        queue=bell,
        loop=lane(inbox=inbox, has_guest=intake.has_guest),
        express=express,
        intake=intake,
        heartbeat=Heartbeat(
            pool=pool,
            hand=hand,
            provider=provider,
            ttl=settings.lease,
            every=timedelta(seconds=settings.heartbeat_seconds),
            slots=slots,
            leave=stop,
            stop=stop_watch,
        ),
        rescuer=Rescuer(
            pool=pool,
            queue=bell,
            cache=cache,
            worker=f"rescuer@{worker}",
            every=timedelta(seconds=settings.rescue_seconds),
            stop=stop_watch,
        ),
        fitness=fitness,
        ended=threading.Event(),
        companion=companion,
    )


def pool_of(provider: str, settings: WorkerSettings) -> Pool:
    """The pool of one worker process."""
    return open_pool(
        settings.database_url.get_secret_value(),
        name=f"csb-worker-{provider}",
        least=settings.pool_min,
        most=settings.pool_max,
        timeout=timedelta(seconds=settings.pool_timeout_seconds),
        prepare=settings.database_prepare,
    )
