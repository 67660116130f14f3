"""Answers that never come: one effect, told truly, whatever the network does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from csb_core.errors import LeaseLost
from csb_core.models import Failed, Retry, Succeeded

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@pytest.mark.parametrize("kind", ["user", "role", "group"])
@pytest.mark.parametrize("action", ["attach_policy", "detach_policy"])
def test_a_lost_answer_is_one_effect_and_changed(
    kind: str,
    action: str,
    actions: Any,
    make_lease: Any,
    attempt: Any,
    new_principal: Any,
    aws_calls: Any,
) -> None:
    name = new_principal(kind)
    if action == "detach_policy":
        actions["attach_policy"](make_lease(kind, name), attempt)
    operation = f"{action.partition('_')[0].title()}{kind.title()}Policy"
    aws_calls.order(operation, "lost_answer", principal=name)

    outcome = actions[action](make_lease(kind, name), attempt)

    assert isinstance(outcome, Succeeded)
    assert outcome.changed
    log = aws_calls.log(subject=name, operation=operation)
    assert (log["calls"], log["effects"]) == ({operation: 1}, {operation: 1})


def test_a_lost_call_is_read_then_retried_and_changed(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")
    aws_calls.order("AttachUserPolicy", "lost_call", principal=name)

    first = actions["attach_policy"](make_lease("user", name), attempt)
    second = actions["attach_policy"](make_lease("user", name, checkpoint=attempt.kept), attempt)

    assert isinstance(first, Retry)
    assert first.error_class == "NETWORK"
    assert isinstance(second, Succeeded)
    assert second.changed
    assert aws_calls.log(subject=name)["effects"] == {"AttachUserPolicy": 1}


def test_a_killed_attempt_that_had_its_effect_is_told_by_the_next(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    """The worker dies after the write: only the kept before-image knows who changed it."""
    name = new_principal("user")
    lease = make_lease("user", name)

    class Killed(BaseException):
        pass

    def die() -> None:
        aws_calls.client("iam").attach_user_policy(UserName=name, PolicyArn=READ_ONLY)
        raise Killed

    attempt.meanwhile = die
    with pytest.raises(Killed):
        actions["attach_policy"](lease, attempt)
    attempt.meanwhile = lambda: None

    outcome = actions["attach_policy"](replace(lease, checkpoint=attempt.kept, attempt=2), attempt)

    assert isinstance(outcome, Succeeded)
    assert outcome.changed
    assert outcome.result["before"]["attached_policies"] == []
    assert attempt.events == ["checkpoint", "lease"]


def test_reads_that_are_lost_are_repeated_on_the_spot(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")
    aws_calls.order("ListAttachedUserPolicies", "lost_answer", principal=name)

    outcome = actions["attach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Succeeded)
    assert aws_calls.log(subject=name)["calls"]["ListAttachedUserPolicies"] == 3


def test_throttling_beyond_botocores_patience_gives_the_request_back(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")
    aws_calls.order("AttachUserPolicy", "throttle", principal=name, times=3)

    first = actions["attach_policy"](make_lease("user", name), attempt)
    second = actions["attach_policy"](make_lease("user", name, checkpoint=attempt.kept), attempt)

    assert isinstance(first, Retry)
    assert (first.error_class, first.code) == ("THROTTLED", "Throttling")
    assert isinstance(second, Succeeded)
    assert second.changed
    assert aws_calls.log(subject=name)["effects"] == {"AttachUserPolicy": 1}


def test_a_failing_service_gives_the_request_back(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")
    aws_calls.order("GetUser", "error", principal=name, times=3)

    outcome = actions["attach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Retry)
    assert (outcome.error_class, outcome.code) == ("UNAVAILABLE", "ServiceFailure")


def test_credentials_that_expire_are_renewed_once(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")
    expired = {"code": "ExpiredToken", "status": 403, "principal": name}
    aws_calls.order("AttachUserPolicy", "error", **expired)

    outcome = actions["attach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Succeeded)
    assert outcome.changed
    assert attempt.events == ["checkpoint", "lease", "lease"]
    assert aws_calls.log()["calls"]["AssumeRole"] == 2

    aws_calls.order("DetachUserPolicy", "error", times=2, **expired)

    outcome = actions["detach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("CREDENTIALS", "ExpiredToken")


def test_an_unknown_code_fails_and_is_marked(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any, caplog: Any
) -> None:
    name = new_principal("user")
    aws_calls.order("AttachUserPolicy", "error", principal=name, code="Brandnew", status=400)

    outcome = actions["attach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("UNCLASSIFIED", "Brandnew")
    assert "aws.error_unclassified" in caplog.messages


def test_what_cannot_be_seen_afterwards_is_not_called_a_success(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    """AWS says yes and the state says no, as when somebody undoes it at once."""
    name = new_principal("user")
    aws_calls.order("AttachUserPolicy", "error", principal=name, status=200)

    outcome = actions["attach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Retry)
    assert outcome.error_class == "NOT_VERIFIED"


def test_a_lost_lease_stops_before_the_write(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")

    def lose() -> None:
        raise LeaseLost("another worker has it")

    attempt.meanwhile = lose

    with pytest.raises(LeaseLost):
        actions["attach_policy"](make_lease("user", name), attempt)

    assert "AttachUserPolicy" not in aws_calls.log(subject=name)["calls"]
    assert attempt.events == ["checkpoint", "lease"]
