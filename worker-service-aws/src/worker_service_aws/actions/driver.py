"""Drives a change through an attempt: enter the account, read, decide, apply, verify, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from csb_core.models import (
    Failed,
    Json,
    Lease,
    Outcome,
    Ref,
    Retry,
    Succeeded,
    Target,
    Unfinished,
)
from csb_core.worker.action import Attempt
from worker_service_aws.actions.change import Change, Followed, Pending, Plan
from worker_service_aws.calls import AccountSession
from worker_service_aws.clients import DEADLINE, PATIENCE, Aws
from worker_service_aws.codes import ErrorClass
from worker_service_aws.faults import (
    CredentialsExpired,
    Fault,
    FinalError,
    OutcomeUnknown,
    PassingError,
)

logger = logging.getLogger(__name__)

Prepare = Callable[[Lease, Target], Change]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAction:
    """An action (see `csb_core.worker.action`) that brings one change about."""

    aws: Aws
    prepare: Prepare
    verify_waits: tuple[float, ...]
    deadline: timedelta = DEADLINE

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        """Bring the change about; every AWS error becomes an outcome."""
        refs: list[Ref] = []
        try:
            target = _target(lease)
            run = _Run(
                aws=self.aws,
                change=self.prepare(lease, target),
                lease=lease,
                target=target,
                attempt=attempt,
                refs=refs,
                verify_waits=self.verify_waits,
                before=(lease.checkpoint or {}).get("before"),
            )
            return run.with_one_fresh_session()
        except (PassingError, OutcomeUnknown) as exc:
            fault = exc.fault
            return Retry(
                error_class=fault.error_class,
                code=fault.code,
                message=fault.message,
                after=fault.after,
                refs=tuple(refs),
            )
        except (FinalError, CredentialsExpired) as exc:
            fault = exc.fault
            return Failed(
                error_class=fault.error_class,
                code=fault.code,
                message=fault.message,
                refs=tuple(refs),
            )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One attempt. `before` is the before-image: the first state that any attempt has read."""

    aws: Aws
    change: Change
    lease: Lease
    target: Target
    attempt: Attempt
    refs: list[Ref]
    verify_waits: tuple[float, ...]
    before: Json | None
    ends_at: float = field(default_factory=lambda: time.monotonic() + PATIENCE.total_seconds())

    def with_one_fresh_session(self) -> Outcome:
        """Run; when the credentials expire on the way, run once more with new ones."""
        try:
            return self.run()
        except CredentialsExpired:
            logger.info("aws.credentials_renewed")
            return self.run()

    def run(self) -> Outcome:
        """Read, decide, apply, verify."""
        aws = self._enter()
        token = (self.lease.checkpoint or {}).get("pending")
        if token is not None and isinstance(self.change, Followed):
            return self._end(aws, self.change.follow(aws, token))

        state = self.change.read(aws)
        plan = self.change.decide(state)
        if self.lease.dry_run:
            return self._planned(state, plan)
        if plan is None:
            return self._done(state)

        self._keep(state)
        return self._end(aws, self._apply(aws, plan))

    def _enter(self) -> AccountSession:
        writes = [] if self.lease.dry_run else self.change.writes
        return self.aws.enter(
            self.target,
            self.lease.correlation_id,
            [*self.change.reads, *writes],
            refs=self.refs,
            before_write=self.attempt.require_lease,
            ends_at=self.ends_at,
        )

    def _keep(self, state: Json) -> None:
        """Keep the before-image, so that a later attempt can tell what this request changed."""
        if self.before is None:
            self.attempt.checkpoint({"before": state})
            self.before = state

    def _apply(self, aws: AccountSession, plan: Plan) -> Pending | OutcomeUnknown | None:
        try:
            return self.change.apply(aws, plan)
        except OutcomeUnknown as exc:
            logger.info("aws.answer_lost", extra={"code": exc.fault.code})
            return exc

    def _end(self, aws: AccountSession, applied: Pending | OutcomeUnknown | None) -> Outcome:
        """Verify what was applied; an unknown outcome becomes known here."""
        if isinstance(applied, Pending):
            return Unfinished(
                checkpoint={"before": self.before, "pending": applied.token},
                after=applied.after,
                refs=tuple(self.refs),
            )
        after = self._verified(aws)
        if after is None:
            raise applied or PassingError(_NOT_SEEN)
        return self._done(after)

    def _verified(self, aws: AccountSession) -> Json | None:
        """The state once it is as wanted; None when it is not, after a few looks."""
        for wait in self.verify_waits:
            time.sleep(wait)
            state = self.change.read(aws)
            if self.change.decide(state) is None:
                return state
        return None

    def _done(self, after: Json) -> Succeeded:
        before = after if self.before is None else self.before
        undone = self.change.decide(before)
        return Succeeded(
            result={
                "before": before,
                "after": after,
                "verified": True,
                "inverse": undone.inverse if undone else None,
            },
            changed=undone is not None,
            refs=tuple(self.refs),
        )

    def _planned(self, state: Json, plan: Plan | None) -> Succeeded:
        return Succeeded(
            result={
                "dry_run": True,
                "would_change": plan is not None,
                "before": state,
                "plan": [call.document for call in plan.calls] if plan else [],
                "inverse": plan.inverse if plan else None,
            },
            changed=False,
            refs=tuple(self.refs),
        )


_NOT_SEEN = Fault(
    error_class=ErrorClass.NOT_VERIFIED,
    code="NotVerified",
    message="AWS accepted the change, but it cannot be seen yet or was undone at once",
)


def _target(lease: Lease) -> Target:
    """The account's door; raises FinalError when there is none, or it leads elsewhere."""
    target = lease.target
    if target is None or target.role_arn.split(":")[4] != lease.account_id:
        raise FinalError(
            Fault(
                error_class=ErrorClass.INVALID,
                code="AccountNotRegistered",
                message=f"account {lease.account_id} is not registered with a role of its own",
            )
        )
    return target
