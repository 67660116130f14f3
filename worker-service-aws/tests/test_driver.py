"""The driver with a change that AWS goes on with by itself, as Identity Center does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from csb_core.config import WorkerSettings
from csb_core.models import Failed, Json, Succeeded, Unfinished
from worker_service_aws.actions.change import Call, Pending, Plan
from worker_service_aws.actions.driver import ChangeAction
from worker_service_aws.calls import AccountSession
from worker_service_aws.clients import DEADLINE, Aws
from worker_service_aws.codes import ErrorClass
from worker_service_aws.faults import Fault, FinalError
from worker_service_aws.session_policy import Statement, allow

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowAttachment:
    """It is asked for, goes on for a while, and has an end that must be asked about."""

    name: str
    root: Any
    looks: list[Json] = field(default_factory=list)
    fails: bool = False

    @property
    def reads(self) -> list[Statement]:
        return [allow(["iam:ListAttachedUserPolicies"], ["*"])]

    @property
    def writes(self) -> list[Statement]:
        return []

    def read(self, aws: AccountSession) -> Json:
        found = aws.pages("iam", "ListAttachedUserPolicies", "AttachedPolicies", UserName=self.name)
        return {"attached": [one["PolicyArn"] for one in found]}

    def decide(self, state: Json) -> Plan | None:
        if READ_ONLY in state["attached"]:
            return None
        return Plan(calls=(Call(service="x", operation="CreateX", parameters={}),), inverse=None)

    def apply(self, aws: AccountSession, plan: Plan) -> Pending:
        del aws, plan
        return Pending(token={"request": "r-1"}, after=timedelta(seconds=5))

    def follow(self, aws: AccountSession, token: Json) -> Pending | None:
        del aws
        self.looks.append(token)
        if self.fails:
            fault = Fault(error_class=ErrorClass.CONFLICT, code="FAILED", message="it said so")
            raise FinalError(fault)
        if len(self.looks) == 1:
            return Pending(token=token, after=timedelta(seconds=7))
        self.root.attach_user_policy(UserName=self.name, PolicyArn=READ_ONLY)
        return None


@pytest.fixture
def slow(local_aws: Any, new_principal: Any) -> SlowAttachment:
    return SlowAttachment(name=new_principal("user"), root=local_aws.client("iam"))


def action_of(aws: Aws, change: Any) -> ChangeAction:
    return ChangeAction(aws=aws, prepare=lambda *_: change, verify_waits=(0.0,))


def test_it_is_asked_about_until_it_is_done(
    aws: Aws, slow: SlowAttachment, make_lease: Any, attempt: Any
) -> None:
    action, lease = action_of(aws, slow), make_lease()

    first = action(lease, attempt)

    assert isinstance(first, Unfinished)
    assert first.after == timedelta(seconds=5)
    assert first.checkpoint == {"before": {"attached": []}, "pending": {"request": "r-1"}}

    second = action(replace(lease, checkpoint=first.checkpoint), attempt)

    assert isinstance(second, Unfinished)
    assert second.checkpoint == first.checkpoint

    third = action(replace(lease, checkpoint=second.checkpoint), attempt)

    assert isinstance(third, Succeeded)
    assert third.changed
    assert third.result["before"] == {"attached": []}
    assert third.result["after"] == {"attached": [READ_ONLY]}
    assert slow.looks == [{"request": "r-1"}] * 2


def test_it_may_fail_in_the_end(
    aws: Aws, slow: SlowAttachment, make_lease: Any, attempt: Any
) -> None:
    failing = replace(slow, fails=True)
    lease = make_lease(checkpoint={"before": {"attached": []}, "pending": {"request": "r-1"}})

    outcome = action_of(aws, failing)(lease, attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("CONFLICT", "FAILED")


def test_an_empty_checkpoint_is_none(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any
) -> None:
    outcome = actions["attach_policy"](
        make_lease("user", new_principal("user"), checkpoint={}), attempt
    )

    assert isinstance(outcome, Succeeded)
    assert outcome.changed


def test_every_action_has_a_deadline_below_the_grace_of_a_worker(actions: Any) -> None:
    grace = timedelta(seconds=WorkerSettings.model_fields["grace_seconds"].default)

    assert {action.deadline for action in actions.values()} == {DEADLINE}
    assert grace > DEADLINE
