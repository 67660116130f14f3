"""The action `test_util`: every stored test case of a version, each in a jail of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from csb_core.models import Failed, Json, Lease, Outcome, PinnedUtil, Retry, Succeeded, Unfinished
from csb_core.worker.action import Attempt
from worker_sandbox.code_cache import (
    CodeCache,
    CodeUnusable,
    Prepared,
    authentic,
    fetch,
    prepared_of,
)
from worker_sandbox.job import Job, Run
from worker_sandbox.likeness import difference
from worker_sandbox.meter import Meter
from worker_sandbox.outcomes import outcome_of
from worker_sandbox.run_util import SOON, UNPINNED, Leaving, Runner, limits_of, unusable


class Interrupted(Exception):
    """The sandbox failed in the middle: nothing is known of the util."""

    def __init__(self, outcome: Retry) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class TestUtil:
    """Runs the cases one after the other; only if all are green is it a success."""

    __test__ = False  # pytest collects what is named Test...

    run: Runner
    codes: CodeCache
    meter: Meter
    longest: timedelta
    deadline: timedelta

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        """See `csb_core.worker.action.Action`."""
        if lease.util is None:
            return UNPINNED
        try:
            # The cases are no part of the digest, so they are always read.
            found = fetch(self.codes.pool, lease)
            prepared = prepared_of(authentic(found, lease.util))
        except CodeUnusable as exc:
            return unusable(exc)
        try:
            cases = list(self._cases(lease, lease.util, attempt, prepared, found.test_cases))
        except Leaving:
            return Unfinished(checkpoint=None, after=SOON)
        except Interrupted as exc:
            return exc.outcome
        return judged(cases)

    def _cases(
        self,
        lease: Lease,
        util: PinnedUtil,
        attempt: Attempt,
        prepared: Prepared,
        test_cases: list[Json],
    ) -> Iterator[Json]:
        """Give what each case came to. Raises Leaving, Interrupted, LeaseLost."""
        ends = time.monotonic() + self.deadline.total_seconds() * 0.9
        limits = limits_of(util, self.longest)
        for case in test_cases:
            attempt.require_lease()
            if time.monotonic() + limits.timeout_seconds > ends:
                reason = "not run: all cases together took too long"
                yield {"name": case["name"], "passed": False, "exit_reason": None, "error": reason}
                continue
            work = Job(kind=prepared.kind, code=prepared.code, input=case["input"], limits=limits)
            run = self.run(work)
            outcome = outcome_of(run, prepared.output_schema)
            self.meter.executed(lease, util, run, outcome)
            if isinstance(outcome, Retry):
                raise Interrupted(outcome)
            yield told(case, run, outcome)


def told(case: Json, run: Run, outcome: Outcome) -> Json:
    """What one case came to, as its author reads it."""
    shown: Json = {"name": case["name"], "passed": False, "exit_reason": run.exit_reason}
    if isinstance(outcome, Failed):
        reason = outcome.result["exit_reason"] if outcome.result else run.exit_reason
        return shown | {"error": outcome.message, "exit_reason": reason}
    differs = difference(case["expected"], run.value)
    return shown | ({"difference": differs} if differs else {"passed": True})


def judged(cases: list[Json]) -> Outcome:
    """What all cases together came to."""
    failed = [case["name"] for case in cases if not case["passed"]]
    result = {"passed": len(cases) - len(failed), "failed": len(failed), "cases": cases}
    if not failed:
        return Succeeded(result=result, changed=False)
    names = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
    return Failed(
        error_class="UTIL_ERROR",
        code="tests_failed",
        message=f"{len(failed)} of {len(cases)} test cases failed: {names}",
        result=result,
    )
