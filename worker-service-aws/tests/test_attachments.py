"""Attaching and detaching through a real session, for every kind of principal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from csb_core.models import Failed, Lease, Succeeded

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
KINDS = ("user", "role", "group")


@pytest.mark.parametrize("kind", KINDS)
def test_attach_then_detach(
    kind: str, actions: Any, make_lease: Any, attempt: Any, new_principal: Any, local_aws: Any
) -> None:
    name = new_principal(kind)

    outcome = actions["attach_policy"](make_lease(kind, name), attempt)

    assert isinstance(outcome, Succeeded)
    assert outcome.changed
    assert outcome.result["before"]["attached_policies"] == []
    assert outcome.result["after"]["attached_policies"] == [READ_ONLY]
    assert outcome.result["before"]["principal"]["arn"].endswith(f":{kind}/made/{name}")
    assert outcome.result["inverse"]["action"] == "detach_policy"
    assert local_aws.attached(kind, name) == {READ_ONLY}

    outcome = actions["detach_policy"](make_lease(kind, name), attempt)

    assert isinstance(outcome, Succeeded)
    assert outcome.changed
    assert outcome.result["inverse"]["action"] == "attach_policy"
    assert local_aws.attached(kind, name) == set()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", ["attach_policy", "detach_policy"])
def test_a_repeat_changes_nothing_and_writes_nothing(
    kind: str,
    action: str,
    actions: Any,
    make_lease: Any,
    attempt: Any,
    new_principal: Any,
    aws_calls: Any,
) -> None:
    name = new_principal(kind)
    actions["attach_policy"](make_lease(kind, name), attempt)
    actions[action](make_lease(kind, name), attempt)
    aws_calls.clear()
    attempt.events.clear()

    outcome = actions[action](make_lease(kind, name), attempt)

    assert isinstance(outcome, Succeeded)
    assert not outcome.changed
    assert outcome.result["inverse"] is None
    assert attempt.events == []
    assert not [one for one in aws_calls.log()["calls"] if one.startswith(("Attach", "Detach"))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_plans_and_touches_nothing(
    kind: str, actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal(kind)

    outcome = actions["attach_policy"](make_lease(kind, name, dry_run=True), attempt)

    noun = kind.title()
    assert isinstance(outcome, Succeeded)
    assert not outcome.changed
    assert outcome.result["would_change"]
    assert outcome.result["plan"] == [
        {
            "service": "iam",
            "operation": f"Attach{noun}Policy",
            "parameters": {f"{noun}Name": name, "PolicyArn": READ_ONLY},
        }
    ]
    assert set(aws_calls.log()["calls"]) == {
        "AssumeRole",
        f"Create{noun}",
        f"Get{noun}",
        f"ListAttached{noun}Policies",
        "GetPolicy",
    }
    assert attempt.events == []
    assert aws_calls.attached(kind, name) == set()


def test_a_dry_run_of_nothing_to_do(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any
) -> None:
    outcome = actions["detach_policy"](
        make_lease("user", new_principal("user"), dry_run=True), attempt
    )

    assert isinstance(outcome, Succeeded)
    assert not outcome.result["would_change"]
    assert outcome.result["plan"] == []


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_missing_policy_is_found_by_plan_and_by_deed(
    *, dry_run: bool, actions: Any, make_lease: Any, attempt: Any, new_principal: Any
) -> None:
    lease = make_lease(
        "user",
        new_principal("user"),
        dry_run=dry_run,
        parameters={"policy_arn": "arn:aws:iam::aws:policy/NoSuchThing"},
    )

    outcome = actions["attach_policy"](lease, attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("NOT_FOUND", "NoSuchEntity")
    assert "NoSuchThing" in outcome.message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", ["attach_policy", "detach_policy"])
def test_a_missing_principal_fails(
    kind: str, action: str, actions: Any, make_lease: Any, attempt: Any
) -> None:
    outcome = actions[action](make_lease(kind, "nobody-of-that-name"), attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("NOT_FOUND", "NoSuchEntity")
    assert [ref.operation for ref in outcome.refs] == [
        "AssumeRole",
        "AssumeRole",
        f"Get{kind.title()}",
    ]


def test_detaching_what_another_has_just_detached_is_as_good(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")
    actions["attach_policy"](make_lease("user", name), attempt)
    iam = aws_calls.client("iam")
    attempt.meanwhile = lambda: iam.detach_user_policy(UserName=name, PolicyArn=READ_ONLY)

    outcome = actions["detach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Succeeded)
    refused = [one for one in outcome.refs if one.operation == "DetachUserPolicy"]
    assert len(refused) == 1


def test_detaching_from_a_principal_that_has_just_gone_fails(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")
    actions["attach_policy"](make_lease("user", name), attempt)
    iam = aws_calls.client("iam")

    def remove() -> None:
        iam.detach_user_policy(UserName=name, PolicyArn=READ_ONLY)
        iam.delete_user(UserName=name)

    attempt.meanwhile = remove

    outcome = actions["detach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Failed)
    assert outcome.code == "NoSuchEntity"


def test_the_quota_is_final(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    name = new_principal("user")
    iam = aws_calls.client("iam")
    for policy in iam.list_policies(Scope="AWS", MaxItems=10)["Policies"]:
        iam.attach_user_policy(UserName=name, PolicyArn=policy["Arn"])

    outcome = actions["attach_policy"](make_lease("user", name), attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("LIMIT_EXCEEDED", "LimitExceeded")
    assert aws_calls.log(operation="AttachUserPolicy", code="LimitExceeded")["calls"] == {
        "AttachUserPolicy": 1
    }


@pytest.mark.parametrize(
    "name",
    [
        "CSBExecutor",
        "csbexecutor",
        "AWSServiceRoleForElasticBeanstalk",
        "AWSReservedSSO_Admin_0123456789abcdef",
    ],
)
def test_protected_roles_are_refused_before_anything_is_called(
    name: str, actions: Any, make_lease: Any, attempt: Any, aws_calls: Any
) -> None:
    outcome = actions["attach_policy"](make_lease("role", name), attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("PROTECTED", "ProtectedPrincipal")
    assert aws_calls.log()["calls"] == {}


def test_a_role_in_a_path_of_aws_is_refused(
    actions: Any, make_lease: Any, attempt: Any, aws_calls: Any
) -> None:
    aws_calls.client("iam").create_role(
        RoleName="Innocent", Path="/aws-reserved/x/", AssumeRolePolicyDocument="{}"
    )

    outcome = actions["attach_policy"](make_lease("role", "Innocent"), attempt)

    assert isinstance(outcome, Failed)
    assert outcome.code == "ProtectedPrincipal"
    assert "AttachRolePolicy" not in aws_calls.log()["calls"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "*"},
        {"name": "a/b"},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "ärger"},
        {"kind": "instance"},
        {"parameters": {}},
        {"parameters": {"policy_arn": "arn:aws:iam::aws:policy/*"}},
        {"parameters": {"policy_arn": "arn:aws:iam::aws:policy/Read?nly"}},
        {"parameters": {"policy_arn": "arn:aws:iam::aws:policy/${aws:username}/x"}},
        {"parameters": {"policy_arn": "arn:aws-cn:iam::aws:policy/ReadOnlyAccess"}},
        {"parameters": {"policy_arn": "arn:aws:iam::aws:role/ReadOnlyAccess"}},
        {"target": None},
        {"account_id": "444455556666"},
    ],
)
def test_what_makes_no_sense_fails_before_anything_is_called(
    changes: dict[str, Any],
    actions: Any,
    make_lease: Callable[..., Lease],
    attempt: Any,
    aws_calls: Any,
) -> None:
    outcome = actions["attach_policy"](make_lease(**changes), attempt)

    assert isinstance(outcome, Failed)
    assert outcome.error_class == "INVALID"
    assert aws_calls.log()["calls"] == {}
