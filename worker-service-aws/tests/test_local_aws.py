"""The gate before moto: it refuses as AWS refuses, and misbehaves when it is told to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from worker_service_aws.local_aws.demo_seed import demo_seed, executor_arn

ACCOUNT = "111122223333"
EXTERNAL_ID = f"local-{ACCOUNT}"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


def refusal(ask: Any, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        ask(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def assume(aws: Any, **changes: Any) -> Any:
    parameters = {
        "RoleArn": executor_arn(ACCOUNT),
        "RoleSessionName": "test",
        "ExternalId": EXTERNAL_ID,
        "DurationSeconds": 900,
        **changes,
    }
    chosen = {key: value for key, value in parameters.items() if value is not None}
    return aws.platform().assume_role(**chosen)


def session(aws: Any, **changes: Any) -> Any:
    credentials = assume(aws, **changes)["Credentials"]
    return aws.client(
        "iam",
        key=credentials["AccessKeyId"],
        secret=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"ExternalId": "wrong"},
        {"ExternalId": None},
        {"RoleArn": "arn:aws:iam::111122223333:role/deploy"},
        {"RoleArn": "arn:aws:iam::111122223333:role/NoSuchRole"},
        {"RoleArn": "arn:aws:iam::222233334444:role/CSBExecutor"},
        {"SourceIdentity": "somebody"},
        {"Tags": [{"Key": "csb:tenant", "Value": "x"}]},
    ],
)
def test_a_role_that_does_not_trust_us_is_not_assumed(changes: Any, aws_calls: Any) -> None:
    code, message = refusal(lambda: assume(aws_calls, **changes))

    assert code == "AccessDenied"
    assert message.startswith(
        "User: arn:aws:iam::999988887777:user/csb-platform is not authorized to perform: "
        "sts:AssumeRole on resource: arn:aws:iam::"
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"RoleSessionName": "has space"}, "ValidationError"),
        ({"RoleSessionName": "x" * 65}, "ValidationError"),
        ({"ExternalId": "no/semicolon;"}, "ValidationError"),
        ({"RoleArn": "arn:aws:iam::111122223333:user/alice"}, "ValidationError"),
        ({"DurationSeconds": 43200}, "ValidationError"),
        ({"Policy": "no json"}, "MalformedPolicyDocument"),
        ({"Policy": json.dumps({"Statement": [], "x": "y" * 2048})}, "PackedPolicyTooLarge"),
    ],
)
def test_parameters_are_checked(changes: Any, code: str, aws_calls: Any) -> None:
    assert refusal(lambda: assume(aws_calls, **changes))[0] == code


def test_the_root_assumes_no_role(aws_calls: Any) -> None:
    code, _ = refusal(
        aws_calls.client("sts").assume_role,
        RoleArn=executor_arn("444455556666"),
        RoleSessionName="test",
    )
    assert code == "AccessDenied"


def test_a_session_lands_in_its_account_and_is_limited_by_its_role(
    aws_calls: Any, new_principal: Any
) -> None:
    name = new_principal("user")
    iam = session(aws_calls)

    iam.attach_user_policy(UserName=name, PolicyArn=READ_ONLY)

    assert aws_calls.attached("user", name) == {READ_ONLY}
    code, message = refusal(iam.list_users)
    assert code == "AccessDenied"
    assert message == (
        "User: arn:aws:sts::111122223333:assumed-role/CSBExecutor/test is not authorized to "
        "perform: iam:ListUsers on resource: * because no identity-based policy allows the "
        "iam:ListUsers action"
    )
    code, message = refusal(iam.attach_role_policy, RoleName="CSBExecutor", PolicyArn=READ_ONLY)
    assert message.endswith(
        "on resource: role CSBExecutor with an explicit deny in an identity-based policy"
    )


def test_a_session_policy_narrows_and_never_widens(aws_calls: Any, new_principal: Any) -> None:
    name = new_principal("user")
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    nothing = {"Statement": [{"Effect": "Deny", "Action": "iam:Attach*", "Resource": "*"}]}
    nothing["Statement"] += everything["Statement"]

    wide = session(aws_calls, Policy=json.dumps(everything))
    narrow = session(aws_calls, Policy=json.dumps(nothing))

    assert "no identity-based policy" in refusal(wide.list_users)[1]
    attach = {"UserName": name, "PolicyArn": READ_ONLY}
    assert "explicit deny in a session policy" in refusal(narrow.attach_user_policy, **attach)[1]
    wide.attach_user_policy(**attach)


def test_a_key_that_nobody_knows_is_refused(aws_calls: Any) -> None:
    credentials = assume(aws_calls)["Credentials"]
    for more in (
        {"key": "AKIAAAAAAAAAAAAAAAAA"},
        {"key": credentials["AccessKeyId"], "aws_session_token": "forged"},
        {"key": credentials["AccessKeyId"]},
    ):
        assert refusal(aws_calls.client("iam", **more).list_users)[0] == "InvalidClientTokenId"


def test_a_key_made_by_the_root_works_until_it_is_deactivated(
    aws_calls: Any, new_principal: Any
) -> None:
    name = new_principal("user")
    root = aws_calls.client("iam")
    key = root.create_access_key(UserName=name)["AccessKey"]
    iam = aws_calls.client("iam", key=key["AccessKeyId"], secret=key["SecretAccessKey"])

    assert refusal(iam.list_users)[0] == "AccessDenied"
    root.attach_user_policy(UserName=name, PolicyArn=READ_ONLY)
    assert iam.list_users()["Users"]

    root.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert refusal(iam.list_users)[0] == "InvalidClientTokenId"


def test_roles_of_aws_are_not_modifiable(aws_calls: Any) -> None:
    code, _ = refusal(
        aws_calls.client("iam").attach_role_policy,
        RoleName="AWSServiceRoleForElasticBeanstalk",
        PolicyArn=READ_ONLY,
    )
    assert code == "UnmodifiableEntity"


def test_faults_to_order(aws_calls: Any, new_principal: Any) -> None:
    name = new_principal("user")
    iam = aws_calls.client("iam")
    attach = {"UserName": name, "PolicyArn": READ_ONLY}

    aws_calls.order("AttachUserPolicy", "throttle", principal=name, account=ACCOUNT)
    assert refusal(iam.attach_user_policy, **attach) == ("Throttling", "Rate exceeded")

    aws_calls.order("AttachUserPolicy", "lost_call", principal=name)
    with pytest.raises(ConnectionClosedError):
        iam.attach_user_policy(**attach)
    assert aws_calls.attached("user", name) == set()

    aws_calls.order("AttachUserPolicy", "lost_answer", principal=name)
    with pytest.raises(ConnectionClosedError):
        iam.attach_user_policy(**attach)
    assert aws_calls.attached("user", name) == {READ_ONLY}

    aws_calls.order("*", "latency", principal=name, seconds=0.2)
    began = time.monotonic()
    iam.get_user(UserName=name)
    assert time.monotonic() - began > 0.2

    aws_calls.order("GetUser", "error", principal=name, code="ServiceFailure", status=500)
    assert refusal(iam.get_user, UserName=name)[0] == "ServiceFailure"

    iam.get_user(UserName=name)
    aws_calls.order("GetUser", "throttle", principal="somebody else")
    iam.get_user(UserName=name)


def test_the_journal_counts_calls_and_effects(aws_calls: Any, new_principal: Any) -> None:
    name = new_principal("user")
    iam = aws_calls.client("iam")
    for _ in range(3):
        iam.attach_user_policy(UserName=name, PolicyArn=READ_ONLY)

    log = aws_calls.log(subject=name, operation="AttachUserPolicy")

    assert log["calls"] == {"AttachUserPolicy": 3}
    assert log["effects"] == {"AttachUserPolicy": 1}
    assert log["entries"][0]["policy_arn"] == READ_ONLY
    assert log["entries"][0]["account"] == ACCOUNT


@pytest.mark.parametrize("body", ["no json", "[]", '{"kind": "nonsense"}', '{"kind": "latency"}'])
def test_an_order_that_is_not_understood_is_refused(body: str, aws_calls: Any) -> None:
    request = urllib.request.Request(f"{aws_calls.url}/_csb/faults", body.encode(), method="POST")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=5)


def test_it_starts_from_a_seed_and_stops_at_once(tmp_path: Path) -> None:
    seed = tmp_path / "seed.json"
    seed.write_text(json.dumps(demo_seed({"123456789012": "given"}, extra_users=2)))
    command = [sys.executable, "-m", "worker_service_aws.local_aws", "--port", "0"]

    command += ["--seed", str(seed)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("local_aws ready http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - began < 1


def test_the_seed_is_written_by_a_command() -> None:
    command = [sys.executable, "-m", "worker_service_aws.local_aws.demo_seed"]
    written = subprocess.run(
        [*command, "--external-id", f"{ACCOUNT}=a=b"], capture_output=True, check=True, text=True
    )
    assert json.loads(written.stdout) == demo_seed({ACCOUNT: "a=b"})
