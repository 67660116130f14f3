"""The documents that the doctor gives open an account, and it finds what keeps one closed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from csb_core.errors import ConfigurationError, NotFound
from csb_core.examination import Finding, doctor_for
from csb_core.models import Lease, Target
from worker_service_aws import doctor, powers
from worker_service_aws.actions.attachments import attachment
from worker_service_aws.actions.catalogue import build_actions
from worker_service_aws.clients import Aws
from worker_service_aws.local_aws.demo_seed import (
    PLATFORM_ACCOUNT,
    PLATFORM_KEY_ID,
    PLATFORM_SECRET,
    PLATFORM_USER,
    demo_seed,
)
from worker_service_aws.principals import KINDS
from worker_service_aws.settings import AwsSettings

PRINCIPAL = f"arn:aws:iam::{PLATFORM_ACCOUNT}:user/{PLATFORM_USER}"
EXTERNAL_ID = "csb-0123456789abcdef"
PASTED, TOO_OPEN, CLOSED, POWERLESS, SILENT, CAREFUL = (
    "100000000001",
    "100000000002",
    "100000000003",
    "100000000004",
    "100000000005",
    "100000000006",
)


def _target(account_id: str) -> Target:
    return doctor.target(account_id, EXTERNAL_ID, role="CSBExecutor")


def _account(account_id: str, **changes: Any) -> dict[str, Any]:
    """An account whose owner pasted what the doctor gave, and then changed something."""
    trust, permissions = doctor.documents(_target(account_id), principal=PRINCIPAL).values()
    role = {"name": "CSBExecutor", "trust": trust, "inline_policies": {"csb": permissions}}
    return {"roles": [role | changes]}


def _trust_without_condition(account_id: str) -> dict[str, Any]:
    trust, _ = doctor.documents(_target(account_id), principal=PRINCIPAL).values()
    del trust["Statement"][0]["Condition"]
    return trust


def _without(account_id: str, *sids: str, **condition: Any) -> dict[str, Any]:
    """The permissions that the doctor gave, some of them left out, or bound to a condition."""
    _, permissions = doctor.documents(_target(account_id), principal=PRINCIPAL).values()
    kept = [one for one in permissions["Statement"] if condition or one["Sid"] not in sids]
    for statement in kept:
        if statement["Sid"] in sids:
            statement["Condition"] = condition
    return {"csb": {**permissions, "Statement": kept}}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a local AWS that has the accounts."""
    seed = demo_seed({})
    stranger = {"AWS": f"arn:aws:iam::{PLATFORM_ACCOUNT}:user/somebody-else"}
    closed = _trust_without_condition(CLOSED)
    closed["Statement"][0]["Principal"] = stranger
    seed["accounts"] |= {
        PASTED: _account(PASTED),
        TOO_OPEN: _account(TOO_OPEN, trust=_trust_without_condition(TOO_OPEN)),
        CLOSED: _account(CLOSED, trust=closed),
        POWERLESS: _account(POWERLESS, inline_policies={}),
        SILENT: _account(
            SILENT, inline_policies=_without(SILENT, "ExamineOwnPermissions", "ReadPolicies")
        ),
        CAREFUL: _account(
            CAREFUL,
            inline_policies=_without(
                CAREFUL, "ChangeAttachments", ArnLike={"iam:PolicyARN": "arn:aws:iam::aws:*"}
            ),
        ),
    }
    path: Path = tmp_path_factory.mktemp("aws") / "seed.json"
    path.write_text(json.dumps(seed))
    command = [sys.executable, "-m", "worker_service_aws.local_aws", "--port=0", f"--seed={path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
        server.terminate()


@pytest.fixture(autouse=True)
def _as_the_platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", PLATFORM_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLATFORM_SECRET)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    if "aws" in request.fixturenames:
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("aws"))


def _examine(account_id: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in doctor.examine(_target(account_id))}


@pytest.mark.usefixtures("aws")
def test_an_account_with_the_pasted_documents_is_in_order() -> None:
    findings = _examine(PASTED)
    assert {check: finding.verdict for check, finding in findings.items()} == {
        "the platform's own identity": "ok",
        "enter with our ExternalId": "ok",
        "refuse any other ExternalId": "ok",
        **dict.fromkeys(powers.ABILITIES, "ok"),
    }, findings
    assert "as IAM simulates it" in findings["detach_policy on groups"].detail
    assert findings["the platform's own identity"].detail == PRINCIPAL


@pytest.mark.usefixtures("aws")
def test_a_role_that_asks_for_no_external_id_trusts_too_much() -> None:
    found = _examine(TOO_OPEN)["refuse any other ExternalId"]
    assert found.verdict == "warning"
    assert "sts:ExternalId" in found.remedy


@pytest.mark.usefixtures("aws")
def test_a_closed_account_is_said_with_its_remedy() -> None:
    findings = _examine(CLOSED)
    assert list(findings) == ["the platform's own identity", "enter with our ExternalId"]
    found = findings["enter with our ExternalId"]
    assert found.verdict == "failed"
    assert "AccessDenied" in found.detail
    assert "trust policy" in found.remedy


@pytest.mark.usefixtures("aws")
def test_missing_powers_are_named() -> None:
    findings = _examine(POWERLESS)
    assert findings["enter with our ExternalId"].verdict == "ok"
    found = findings["detach_policy on groups"]
    assert found.verdict == "failed"
    assert "iam:DetachGroupPolicy" in found.detail
    assert "permissions policy" in found.remedy


@pytest.mark.usefixtures("aws")
def test_what_may_not_be_simulated_is_tried() -> None:
    findings = _examine(SILENT)
    assert "as tried on" in findings["attach_policy on roles"].detail
    assert findings["attach_policy on roles"].verdict == "ok"
    assert (findings["dry_run"].verdict, findings["dry_run"].detail) == (
        "failed",
        "denied: iam:GetPolicy",
    )


@pytest.mark.usefixtures("aws")
def test_a_no_that_hangs_on_the_policy_is_no_no() -> None:
    findings = _examine(CAREFUL)
    assert findings["dry_run"].verdict == "ok"
    found = findings["attach_policy on users"]
    assert found.verdict == "unknown"
    assert found.detail == "not to be found out: iam:AttachUserPolicy"
    assert "dry_run" in found.remedy


def test_without_an_identity_there_is_nothing_else_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    [found] = doctor.examine(_target(PASTED))
    assert found.verdict == "failed"
    assert "credentials" in found.remedy
    with pytest.raises(ConfigurationError, match="--principal"):
        doctor.documents(_target(PASTED), principal=None)
    for name, useless in (("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "nowhere")):
        with monkeypatch.context() as patch:
            patch.setenv(name, useless)
            assert doctor.enter(_target(PASTED)).verdict == "failed"


@pytest.mark.usefixtures("aws")
def test_the_principal_is_found_out_when_it_is_not_given() -> None:
    trust = next(iter(doctor.documents(_target(PASTED), principal=None).values()))
    assert trust["Statement"][0]["Principal"] == {"AWS": PRINCIPAL}


def test_a_session_is_trusted_as_its_role() -> None:
    session = "arn:aws:sts::999988887777:assumed-role/csb-worker/i-0abc"
    trust = next(iter(doctor.documents(_target(PASTED), principal=session).values()))
    assert trust["Statement"][0] == {
        "Sid": "CSecBridgeMayEnter",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::999988887777:role/csb-worker"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
    }


@pytest.mark.parametrize(
    ("account_id", "role", "field"),
    [
        ("12345", "CSBExecutor", "account_id"),
        (PASTED, "no spaces", "--role"),
        (PASTED, "arn:aws:iam::999999999999:role/CSBExecutor", "--role"),
        (PASTED, "arn:aws:iam::100000000001:user/alice", "--role"),
    ],
)
def test_a_wrong_field_is_named(account_id: str, role: str, field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field}: "):
        doctor.target(account_id, EXTERNAL_ID, role=role)


def test_a_role_may_be_named_by_its_arn_in_any_partition() -> None:
    arn = f"arn:aws-us-gov:iam::{PASTED}:role/security/csb"
    target = doctor.target(PASTED, EXTERNAL_ID, role=arn)
    assert target == Target(account_id=PASTED, role_arn=arn, external_id=EXTERNAL_ID)
    _, permissions = doctor.documents(target, principal=PRINCIPAL).values()
    assert "arn:aws-us-gov:iam::100000000001:user/*" in str(permissions)


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_documents_allow_what_the_actions_ask_for_and_no_more(dry_run: bool) -> None:  # noqa: FBT001
    asked = {
        operation
        for wanted in (False, True)
        for kind in KINDS
        for change in [attachment(wanted=wanted)(_lease(kind, dry_run=dry_run), _target(PASTED))]
        for statement in [*change.reads, *change.writes]
        for operation in statement["Action"]
    }
    given = {operation for operations in powers.OPERATIONS.values() for operation in operations}
    assert asked == given - (set() if dry_run else {"iam:GetPolicy"})
    assert given == {operation for needed in powers.ABILITIES.values() for operation in needed}


def _lease(kind: str, *, dry_run: bool) -> Lease:
    return Lease(
        correlation_id=uuid4(),
        version=1,
        payload={},
        tenant_id=uuid4(),
        cloud_provider="aws",
        action="attach_policy",
        account_id=PASTED,
        principal={"type": kind, "name": "alice"},
        parameters={"policy_arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"},
        dry_run=dry_run,
        attempt=1,
        retries=0,
        max_attempts=5,
        token=1,
        traceparent=None,
        requested_by="key",
        request_id="r",
        checkpoint=None,
        target=_target(PASTED),
    )


def test_every_action_stands_in_the_test_above() -> None:
    settings = AwsSettings()
    actions = set(build_actions(Aws(settings), settings))
    assert actions == {"attach_policy", "detach_policy"}
    assert actions | {"dry_run"} == {ability.split()[0] for ability in powers.ABILITIES}


def test_csbctl_finds_this_doctor() -> None:
    assert doctor_for("aws") is doctor
    with pytest.raises(NotFound, match="known: aws"):
        doctor_for("nowhere")
