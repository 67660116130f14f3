"""How an account is entered: under whose name, for how long, to do what and no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from csb_core.errors import ConfigurationError
from csb_core.models import Failed, Lease, Ref, Retry, Succeeded, Target
from csb_core.redaction import redact
from worker_service_aws.actions.attachments import attachment
from worker_service_aws.actions.catalogue import build_actions
from worker_service_aws.calls import AccountSession
from worker_service_aws.clients import Aws
from worker_service_aws.faults import FinalError, PassingError
from worker_service_aws.settings import AwsSettings

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
OTHER_POLICY = "arn:aws:iam::aws:policy/AdministratorAccess"

Enter = Callable[..., AccountSession]


@pytest.fixture
def enter(aws: Aws) -> Enter:
    """Enter the account as an action of this lease would."""

    def enter(lease: Lease, *, wanted: bool = True, ends_in: float = 30) -> AccountSession:
        assert lease.target is not None
        change = attachment(wanted=wanted)(lease, lease.target)
        return aws.enter(
            lease.target,
            lease.correlation_id,
            [*change.reads, *change.writes],
            refs=[],
            before_write=lambda: None,
            ends_at=time.monotonic() + ends_in,
        )

    return enter


def test_the_session_may_do_one_thing(
    enter: Enter, make_lease: Any, new_principal: Any, aws_calls: Any
) -> None:
    mine, other = new_principal("user"), new_principal("user")
    session = enter(make_lease("user", mine))

    session.call("iam", "AttachUserPolicy", UserName=mine, PolicyArn=READ_ONLY)

    for operation, parameters in (
        ("AttachUserPolicy", {"UserName": mine, "PolicyArn": OTHER_POLICY}),
        ("AttachUserPolicy", {"UserName": other, "PolicyArn": READ_ONLY}),
        ("DetachUserPolicy", {"UserName": mine, "PolicyArn": READ_ONLY}),
        ("GetUser", {"UserName": other}),
        ("ListAttachedUserPolicies", {"UserName": other}),
        ("ListUsers", {}),
        ("CreateAccessKey", {"UserName": mine}),
    ):
        with pytest.raises(FinalError) as caught:
            session.call("iam", operation, **parameters)
        assert caught.value.fault.code == "AccessDenied", operation
        assert "no session policy allows" in caught.value.fault.message

    assert aws_calls.attached("user", mine) == {READ_ONLY}


def test_a_dry_run_may_not_even_write(make_lease: Any, aws: Aws, new_principal: Any) -> None:
    name = new_principal("user")
    lease = make_lease("user", name, dry_run=True)
    change = attachment(wanted=True)(lease, lease.target)
    session = aws.enter(
        lease.target,
        lease.correlation_id,
        change.reads,
        refs=[],
        before_write=lambda: None,
        ends_at=time.monotonic() + 30,
    )

    with pytest.raises(FinalError, match="AccessDenied"):
        session.call("iam", "AttachUserPolicy", UserName=name, PolicyArn=READ_ONLY)


def test_the_name_is_the_correlation_id_and_every_call_leaves_its_id(
    actions: Any, make_lease: Any, attempt: Any, new_principal: Any, aws_calls: Any
) -> None:
    lease = make_lease("user", new_principal("user"), correlation_id=uuid4())
    aws_calls.clear()

    outcome = actions["attach_policy"](lease, attempt)

    assert isinstance(outcome, Succeeded)
    assert aws_calls.log(session=f"csb-{lease.correlation_id}")["calls"] == aws_calls.log()["calls"]
    role, *calls = sorted(outcome.refs, key=lambda ref: ref.type != "aws_assumed_role")
    assert role.value.endswith(f":csb-{lease.correlation_id}")
    assert [(ref.type, ref.service, ref.operation) for ref in calls] == [
        ("aws_request_id", "sts", "AssumeRole"),
        ("aws_request_id", "iam", "GetUser"),
        ("aws_request_id", "iam", "ListAttachedUserPolicies"),
        ("aws_request_id", "iam", "AttachUserPolicy"),
        ("aws_request_id", "iam", "GetUser"),
        ("aws_request_id", "iam", "ListAttachedUserPolicies"),
    ]
    assert len({ref.value for ref in calls}) == len(calls)
    assert all(redact(ref.value) == ref.value for ref in outcome.refs)  # logs show them


def test_a_refused_call_leaves_its_id_too(actions: Any, make_lease: Any, attempt: Any) -> None:
    outcome = actions["attach_policy"](make_lease("user", "nobody"), attempt)

    assert isinstance(outcome, Failed)
    assert outcome.refs[-1].operation == "GetUser"
    assert isinstance(outcome.refs[-1], Ref)


@pytest.mark.parametrize(
    "target",
    [
        {"external_id": "wrong"},
        {"role_arn": "arn:aws:iam::111122223333:role/deploy"},
        {"role_arn": "arn:aws:iam::111122223333:role/NoSuchRole"},
        {"account_id": "444455556666", "role_arn": "arn:aws:iam::444455556666:role/CSBExecutor"},
    ],
)
def test_an_account_that_does_not_let_us_in_fails(
    target: dict[str, str], actions: Any, make_lease: Any, attempt: Any, aws_calls: Any
) -> None:
    lease = make_lease()
    lease = replace(
        lease,
        account_id=target.get("account_id", lease.account_id),
        target=replace(lease.target, **target),
    )

    outcome = actions["attach_policy"](lease, attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("ACCESS_DENIED", "AccessDenied")
    assert set(aws_calls.log()["calls"]) == {"AssumeRole"}


def test_another_partition_is_refused_before_anything_is_called(
    actions: Any, make_lease: Any, attempt: Any, aws_calls: Any
) -> None:
    target = Target(
        account_id="111122223333",
        role_arn="arn:aws-cn:iam::111122223333:role/CSBExecutor",
        external_id="abc",
    )
    lease = make_lease(
        target=target, parameters={"policy_arn": "arn:aws-cn:iam::aws:policy/ReadOnlyAccess"}
    )

    outcome = actions["attach_policy"](lease, attempt)

    assert isinstance(outcome, Failed)
    assert outcome.code == "OtherPartition"
    assert aws_calls.log()["calls"] == {}


def test_the_account_is_the_one_that_was_named(
    actions: Any, make_lease: Any, attempt: Any, local_aws: Any
) -> None:
    account = "444455556666"
    target = Target(
        account_id=account,
        role_arn=f"arn:aws:iam::{account}:role/CSBExecutor",
        external_id=f"local-{account}",
    )

    outcome = actions["attach_policy"](
        make_lease("user", "heidi", account_id=account, target=target), attempt
    )

    assert isinstance(outcome, Succeeded)
    assert local_aws.attached("user", "heidi") == set()
    there = local_aws.client("iam", key=account).list_attached_user_policies(UserName="heidi")
    assert [one["PolicyArn"] for one in there["AttachedPolicies"]] == [READ_ONLY]


def test_no_call_is_begun_when_the_attempt_is_out_of_time(
    enter: Enter, make_lease: Any, aws_calls: Any
) -> None:
    session = enter(make_lease(), ends_in=-1)

    with pytest.raises(PassingError, match="OutOfTime"):
        session.call("iam", "AttachUserPolicy", UserName="alice", PolicyArn=READ_ONLY)

    assert set(aws_calls.log()["calls"]) == {"AssumeRole"}


@pytest.mark.usefixtures("environment")
def test_an_identity_of_ours_that_aws_does_not_know_burns_no_request(
    settings: AwsSettings, make_lease: Any, attempt: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "CSBSOMEBODYELSE00001")
    aws = Aws(settings)

    with pytest.raises(ConfigurationError):
        aws.probe()
    with pytest.raises(ConfigurationError):
        build_actions(aws, settings)["attach_policy"](make_lease(), attempt)


@pytest.mark.usefixtures("environment")
def test_no_credentials_at_all_burn_no_request(
    settings: AwsSettings, make_lease: Any, attempt: Any, monkeypatch: Any
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws = Aws(settings)

    with pytest.raises(ConfigurationError, match="NoCredentialsError"):
        build_actions(aws, settings)["attach_policy"](make_lease(), attempt)


def test_the_probe_is_content_with_our_identity(aws: Aws) -> None:
    aws.probe()


@pytest.mark.usefixtures("environment")
def test_an_aws_that_is_not_there_gives_the_request_back(make_lease: Any, attempt: Any) -> None:
    nowhere = AwsSettings(region="eu-west-1", endpoint_url="http://127.0.0.1:1")

    outcome = build_actions(Aws(nowhere), nowhere)["attach_policy"](make_lease(), attempt)

    assert isinstance(outcome, Retry)
    assert (outcome.error_class, outcome.code) == ("NETWORK", "EndpointConnectionError")
    assert "127.0.0.1" not in outcome.message


@pytest.mark.parametrize(
    ("age", "retries", "kind"),
    [
        (timedelta(0), 0, Retry),
        (timedelta(minutes=4), 2, Retry),
        (timedelta(minutes=4), 3, Failed),
        (timedelta(minutes=6), 0, Failed),
    ],
)
def test_a_newly_registered_account_may_refuse_us_for_a_while(
    *, age: timedelta, retries: int, kind: type, actions: Any, make_lease: Any, attempt: Any
) -> None:
    lease = make_lease(retries=retries)
    registered_at = datetime.now(UTC) - age
    target = replace(lease.target, external_id="not-yet", registered_at=registered_at)

    outcome = actions["attach_policy"](replace(lease, target=target), attempt)

    assert isinstance(outcome, kind)
    assert isinstance(outcome, Retry | Failed)
    assert (outcome.error_class, outcome.code) == ("ACCESS_DENIED", "AccessDenied")
    if isinstance(outcome, Retry):
        assert outcome.after == timedelta(seconds=5)
