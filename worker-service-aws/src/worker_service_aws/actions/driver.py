"""Makes an action of a change, and an outcome of whatever became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from csb_core.models import Failed, Lease, Outcome, Ref, Retry, Target
from csb_core.worker.action import Attempt
from worker_service_aws.actions.change import Change
from worker_service_aws.actions.run import Run
from worker_service_aws.clients import DEADLINE, Aws
from worker_service_aws.codes import ErrorClass
from worker_service_aws.faults import (
    CredentialsExpired,
    Fault,
    FinalError,
    OutcomeUnknown,
    PassingError,
)

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
            run = Run(
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
