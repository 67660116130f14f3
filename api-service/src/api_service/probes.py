"""What an orchestrator asks: are you alive, can you serve; and what Prometheus reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from flask import Response

from api_service.deps import Deps
from api_service.documents import answer
from csb_core import db, metrics
from csb_core.config import VERSION
from csb_core.errors import BridgeError
from csb_core.metrics import QueueReading
from csb_core.models import Json

_PATIENCE: Final = timedelta(seconds=1)


def health(deps: Deps) -> Response:
    """Answer that the process is alive; asks nobody."""
    del deps
    return answer({"status": "ok", "version": VERSION})


def ready(deps: Deps) -> Response:
    """Ask PostgreSQL and Redis; without Redis we accept all the same, and say so.

    A pool that is lent out whole is busy, not down: all pods are so at once, and a load balancer
    that took them out for it would make a crowd an outage.
    """
    asked = [
        _Check(lambda: db.standing(deps.pool)),
        _Check(lambda: _ask_redis(deps)),
    ]
    postgresql, redis = (check.result() for check in asked)
    if postgresql["status"] == "down":
        status = "unavailable"
    elif (postgresql["status"], redis["status"]) != ("ok", "ok"):
        status = "degraded"
    else:
        status = "ready"
    document = {"status": status, "checks": {"postgresql": postgresql, "redis": redis}}
    return answer(document, 503 if status == "unavailable" else 200)


def _ask_redis(deps: Deps) -> str:
    next(iter(deps.queues.values())).ping()
    return "ok"


def render_metrics(deps: Deps) -> bytes:
    """Return every number of this service's processes, and how the queues stand."""
    return metrics.render(lambda: _readings(deps))


class _Check:
    """Asks one neighbour in a thread of its own, so that one that hangs is told as down in time."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask
        self._status = "down"
        self._began = time.monotonic()
        self._seconds: float | None = None
        self._thread = threading.Thread(target=self._run, name="ready-check", daemon=True)
        self._thread.start()

    def result(self) -> Json:
        """Wait no longer than our patience lasts; return how it went."""
        left = self._began + _PATIENCE.total_seconds() - time.monotonic()
        self._thread.join(timeout=max(0.0, left))
        seconds = self._seconds
        taken = seconds if seconds is not None else time.monotonic() - self._began
        status = "down" if seconds is None else self._status
        return {"status": status, "latency_ms": round(taken * 1000, 2)}

    def _run(self) -> None:
        with suppress(BridgeError):
            self._status = self._ask()
            self._seconds = time.monotonic() - self._began


def _readings(deps: Deps) -> Iterator[QueueReading]:
    for provider, queue in deps.queues.items():
        standing = queue.standing()
        age = (datetime.now(UTC) - standing.oldest).total_seconds() if standing.oldest else 0.0
        yield QueueReading(
            provider=provider,
            depth=standing.depth,
            oldest_seconds=max(0.0, age),
            tenants=len(standing.backlogs),
        )
