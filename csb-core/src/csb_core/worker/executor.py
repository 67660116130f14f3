"""The one place that meets foreign code: runs actions in threads of their own."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue
from typing import Final

from csb_core import leases, log, metrics
from csb_core.db import Pool, connection
from csb_core.errors import ConfigurationError, LeaseLost, StoreUnavailable
from csb_core.leases import End
from csb_core.models import Failed, Json, Lease, Outcome, Retry, Unfinished
from csb_core.worker.action import Action
from csb_core.worker.hand import Holding
from csb_core.worker.settle import settle

logger = logging.getLogger(__name__)

#: A call to the other side is begun only if the lease outlives at least this.
CALL_BUDGET: Final = timedelta(seconds=1)
#: How long a request waits that met our own faulty configuration; it costs no attempt.
CONFIGURATION_WAIT: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAttempt:
    """The worker's side of `action.Attempt`."""

    holding: Holding
    pool: Pool
    ttl: timedelta

    def require_lease(self) -> None:
        """See `action.Attempt`."""
        if not self.holding.is_good_for(CALL_BUDGET):
            raise LeaseLost(
                f"the lease on {self.holding.lease.correlation_id} is not safe any more"
            )

    def checkpoint(self, state: Json) -> None:
        """See `action.Attempt`."""
        lease = self.holding.lease
        with connection(self.pool) as conn:
            leases.keep(
                conn, lease.correlation_id, token=lease.token, checkpoint=state, ttl=self.ttl
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An attempt that ended, on its way to the record: what it came to, and what becomes of it."""

    holding: Holding
    outcome: Outcome
    end: End


class Executor:
    """Threads that wait for holdings, execute them, and hand over what they came to."""

    def __init__(
        self,
        *,
        actions: Mapping[str, Action],
        pool: Pool,
        ttl: timedelta,
        misconfigured: Callable[[str], None],
        threads: int,
    ) -> None:
        self._actions = actions
        self._pool = pool
        self._ttl = ttl
        self._misconfigured = misconfigured
        self._work: SimpleQueue[tuple[Holding, Callable[[Finished], None]]] = SimpleQueue()
        self._threads = [
            # Daemons: one that hangs past its deadline must not keep the process alive.
            threading.Thread(target=self._run, name=f"slot-{n}", daemon=True)
            for n in range(threads)
        ]

    def start(self) -> None:
        """Start the threads; they live as long as the process."""
        for thread in self._threads:
            thread.start()

    def submit(self, holding: Holding, done: Callable[[Finished], None]) -> None:
        """Have this holding executed by the next free thread, and `done` told of its end."""
        self._work.put((holding, done))

    def deadline(self, lease: Lease) -> timedelta:
        """How long an attempt at this lease may take."""
        action = self._actions.get(lease.action)
        return action.deadline if action else CALL_BUDGET

    def _run(self) -> None:
        while True:
            holding, done = self._work.get()
            finished = self.execute(holding)
            holding.due = math.inf  # it did return, however long its record takes
            done(finished)

    def execute(self, holding: Holding) -> Finished:
        """Run the lease's action; never raises, so that there is always something to record."""
        lease = holding.lease
        log.start(
            correlation_id=str(lease.correlation_id),
            tenant_id=str(lease.tenant_id),
            request_id=lease.request_id,
            trace_id=log.trace_id(lease.traceparent),
        )
        action = self._actions.get(lease.action)
        if action is None:
            return _finished(
                holding,
                Failed(
                    error_class="UNSUPPORTED",
                    code="unknown_action",
                    message=f"no {lease.cloud_provider} worker here knows {lease.action!r}",
                ),
            )
        began = time.monotonic()
        finished = self._attempt(action, holding)
        metrics.EXECUTE_SECONDS.labels(lease.cloud_provider, lease.action).observe(
            time.monotonic() - began
        )
        return finished

    def _attempt(self, action: Action, holding: Holding) -> Finished:
        attempt = HeldAttempt(holding=holding, pool=self._pool, ttl=self._ttl)
        try:
            # Settled in here: what a foreign action returns may be no outcome at all.
            return _finished(holding, action(holding.lease, attempt))
        except LeaseLost as exc:
            # If it really is lost the record is refused, and that is what the audit shows.
            outcome: Outcome = Retry(error_class="LEASE_LOST", code=exc.code, message=str(exc))
        except StoreUnavailable as exc:
            outcome = Retry(error_class="PLATFORM", code=exc.code, message=str(exc))
        except ConfigurationError as exc:
            self._misconfigured(str(exc))
            outcome = Unfinished(checkpoint=None, after=CONFIGURATION_WAIT)
        except BaseException:
            # A bug: tried again, since a deploy may mend it. Its text stays out of tenants' sight.
            logger.exception("action.crashed", extra={"action": holding.lease.action})
            outcome = Retry(
                error_class="INTERNAL", code="action_crashed", message="the action crashed"
            )
        return _finished(holding, outcome)


def _finished(holding: Holding, outcome: Outcome) -> Finished:
    return Finished(holding=holding, outcome=outcome, end=settle(holding.lease, outcome))
