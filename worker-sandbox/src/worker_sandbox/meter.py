"""Counts executions, and leaves a line for each."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from csb_core import metrics
from csb_core.models import Failed, Lease, Outcome, PinnedUtil
from worker_sandbox.job import ExitReason, Run

logger = logging.getLogger(__name__)

#: The exit reasons that mean that we ended the run by force.
FORCED: Final[frozenset[ExitReason]] = frozenset({"timeout", "memory", "output"})
#: What a series is named that is one too many.
OTHER: Final = "other"


@dataclass(slots=True, kw_only=True)
class Meter:
    """Shared by the threads of a process.

    A label for every util of every tenant could be any number of series: only the first
    `most_series` pairs that this process meets are named, the others are counted together.
    """

    most_series: int
    _named: set[tuple[str, str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _place: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a jail that is executing, for as long as it does."""
        metrics.ACTIVE_CONTAINERS.inc()
        try:
            yield
        finally:
            metrics.ACTIVE_CONTAINERS.dec()

    def executed(self, lease: Lease, util: PinnedUtil, run: Run, outcome: Outcome) -> None:
        """Count a run that has ended, and say so."""
        status = status_of(run, outcome)
        tenant_id, util_id = self._labels(str(lease.tenant_id), str(util.util_id))
        metrics.UTILS_EXECUTED.labels(tenant_id, util_id, status).inc()
        metrics.EXECUTION_SECONDS.labels(tenant_id, util_id).observe(run.wall_ms / 1000)
        if run.exit_reason in FORCED:
            metrics.SANDBOX_KILLS.labels(run.exit_reason).inc()
        logger.info(
            "util.executed",
            extra={
                "user_id": lease.requested_by,
                "util_id": str(util.util_id),
                "util_version": util.version,
                "execution_id": str(lease.correlation_id),
                "execution_time_ms": round(run.wall_ms, 2),
                "memory_used_mb": round(run.memory_peak_kb / 1024, 2),
                "container_id": f"{self._place}:{next(self._numbers)}",
                "status": status,
                "tier": run.tier,
            },
        )

    def _labels(self, tenant_id: str, util_id: str) -> tuple[str, str]:
        pair = (tenant_id, util_id)
        with self._lock:
            if pair not in self._named:
                if len(self._named) >= self.most_series:
                    return OTHER, OTHER
                self._named.add(pair)
        return pair


def status_of(run: Run, outcome: Outcome) -> str:
    """Success, or why it was none: one of a few words."""
    if run.exit_reason == "ok":
        return "output_schema" if isinstance(outcome, Failed) else "success"
    return run.exit_reason
