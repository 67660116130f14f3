"""The action `run_util`: one util, one input, one jail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from csb_core.models import Failed, Lease, Outcome, PinnedUtil, Unfinished
from csb_core.worker.action import Attempt
from worker_sandbox.code_cache import CodeCache, CodeUnusable
from worker_sandbox.job import Job, Limits, Run
from worker_sandbox.meter import Meter
from worker_sandbox.outcomes import outcome_of

Runner = Callable[[Job], Run]

#: A request that met the end of its worker is looked at again at once.
SOON: Final = timedelta(milliseconds=1)


class Leaving(Exception):
    """The worker ends before this run has: it is given back, and costs no attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUtil:
    """Fetches the pinned code, has it run, and says what came of it."""

    run: Runner
    codes: CodeCache
    meter: Meter
    #: No run is longer, whatever was granted when the request was accepted.
    longest: timedelta
    deadline: timedelta

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        """See `csb_core.worker.action.Action`."""
        util = lease.util
        if util is None:
            return UNPINNED
        try:
            prepared = self.codes.code_of(lease, util)
        except CodeUnusable as exc:
            return unusable(exc)
        attempt.require_lease()
        work = Job(
            kind=prepared.kind,
            code=prepared.code,
            input=lease.parameters.get("input"),
            limits=limits_of(util, self.longest),
        )
        try:
            run = self.run(work)
        except Leaving:
            return Unfinished(checkpoint=None, after=SOON)
        outcome = outcome_of(run, prepared.output_schema)
        self.meter.executed(lease, util, run, outcome)
        return outcome


UNPINNED: Final = Failed(
    error_class="UTIL_REJECTED", code="util_not_pinned", message="the request names no util to run"
)


def unusable(exc: CodeUnusable) -> Failed:
    """What becomes of a request whose util is not what it was."""
    return Failed(error_class="UTIL_REJECTED", code=exc.code, message=str(exc))


def limits_of(util: PinnedUtil, longest: timedelta) -> Limits:
    """The limits that were granted when the request was accepted, as the jail takes them."""
    return Limits(
        timeout_seconds=min(util.limits.timeout_seconds, longest.total_seconds()),
        memory_limit_mb=util.limits.memory_limit_mb,
        cpu_limit=util.limits.cpu_limit,
    )
