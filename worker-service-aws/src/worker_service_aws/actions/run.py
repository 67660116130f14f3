"""One attempt at a change: enter the account, read, decide, apply, verify."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from csb_core.models import Json, Lease, Outcome, Ref, Succeeded, Target, Unfinished
from csb_core.worker.action import Attempt
from worker_service_aws.actions.change import Change, Followed, Pending, Plan
from worker_service_aws.calls import AccountSession
from worker_service_aws.clients import PATIENCE, Aws
from worker_service_aws.codes import ErrorClass
from worker_service_aws.faults import (
    CredentialsExpired,
    Fault,
    FinalError,
    OutcomeUnknown,
    PassingError,
)

logger = logging.getLogger(__name__)

#: A role refuses us for a while after it was made; a newly registered account is asked again.
PROPAGATION: Final = timedelta(minutes=5)
PROPAGATION_WAIT: Final = timedelta(seconds=5)
PROPAGATION_RETRIES: Final = 3


@dataclass(slots=True, kw_only=True)
class Run:
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
        try:
            return self.aws.enter(
                self.target,
                self.lease.correlation_id,
                [*self.change.reads, *writes],
                refs=self.refs,
                before_write=self.attempt.require_lease,
                ends_at=self.ends_at,
            )
        except FinalError as exc:
            if exc.fault.error_class is ErrorClass.ACCESS_DENIED and self._may_be_too_early():
                raise PassingError(replace(exc.fault, after=PROPAGATION_WAIT)) from exc
            raise

    def _may_be_too_early(self) -> bool:
        """Whether the role may be so new that IAM does not know it everywhere."""
        since = self.target.registered_at
        return (
            since is not None
            and self.lease.retries < PROPAGATION_RETRIES
            and datetime.now(UTC) - since < PROPAGATION
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
