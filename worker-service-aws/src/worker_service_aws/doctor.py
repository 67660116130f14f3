"""What AWS says to operators about a target account: how to open it, and whether it is open.

`csbctl` finds this module under the entry-point group `csb.doctors`; see csb_core.examination.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import uuid4

from botocore.session import Session

from csb_core.errors import BridgeError, ConfigurationError
from csb_core.examination import Finding, Verdict
from csb_core.models import Json, Target
from worker_service_aws.calls import AccountSession, call
from worker_service_aws.clients import Aws
from worker_service_aws.faults import AwsError
from worker_service_aws.session_policy import Statement, allow
from worker_service_aws.settings import load_aws_settings

_ACCOUNT: Final = re.compile(r"\d{12}")
_ROLE_NAME: Final = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_ROLE_ARN: Final = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/([!-~]+/)?[\w+=,.@-]{1,64}")
_SESSION_ARN: Final = re.compile(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+")

_NOUNS: Final = ("User", "Role", "Group")
_PATIENCE_SECONDS: Final = 60

#: What the actions call, by what it is for. A test holds it against the actions themselves.
OPERATIONS: Final = {
    "ReadPrincipals": tuple(f"iam:Get{noun}" for noun in _NOUNS),
    "ReadAttachments": tuple(f"iam:ListAttached{noun}Policies" for noun in _NOUNS),
    "ReadPolicies": ("iam:GetPolicy",),
    "ChangeAttachments": tuple(
        f"iam:{verb}{noun}Policy" for verb in ("Attach", "Detach") for noun in _NOUNS
    ),
}


def target(account_id: str, external_id: str, *, role: str) -> Target:
    """Return the way into an account; `role` is a role's name or ARN.

    Raises ConfigurationError that names the field and its remedy.
    """
    if not _ACCOUNT.fullmatch(account_id):
        raise ConfigurationError("account_id: an AWS account has 12 digits, like 111122223333")
    arn = role
    if not role.startswith("arn:"):
        if not _ROLE_NAME.fullmatch(role):
            raise ConfigurationError("--role: neither a role's name nor its ARN")
        arn = f"arn:aws:iam::{account_id}:role/{role}"
    matched = _ROLE_ARN.fullmatch(arn)
    if matched is None or matched[2] != account_id:
        raise ConfigurationError(f"--role: not the ARN of a role in account {account_id}")
    return Target(account_id=account_id, role_arn=arn, external_id=external_id)


def documents(target: Target, *, principal: str | None) -> dict[str, Json]:
    """Return the role's trust policy and its permissions policy, to be pasted.

    Raises ConfigurationError when `principal` is not given and AWS does not tell who we are.
    """
    role = target.role_arn.rpartition("/")[2]
    return {
        f"Trust policy of the role {role}": _trust(target, principal or _ourselves()),
        f"Permissions policy of the role {role}": _permissions(target),
    }


def examine(target: Target) -> Sequence[Finding]:
    """Try the way in, and say what may be done there; never changes anything.

    What IAM does not simulate for us is tried on a principal that cannot exist: "no such entity"
    says that we may, "access denied" that we may not.
    """
    identity = _identity()
    if identity.verdict != "ok":
        return [identity]
    aws = Aws(load_aws_settings())
    entry = _entry(aws, target)
    if entry.verdict != "ok":
        return [identity, entry]
    return [identity, entry, _stranger(aws, target), *_powers(aws, target)]


def examine_here() -> Sequence[Finding]:
    """Say as whom AWS knows us."""
    return [_identity()]


def _trust(target: Target, principal: str) -> Json:
    assumed = _SESSION_ARN.fullmatch(principal)
    if assumed:  # a session ends, its role stays
        principal = f"arn:{assumed[1]}:iam::{assumed[2]}:role/{assumed[3]}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "CSecBridgeMayEnter",
                "Effect": "Allow",
                "Principal": {"AWS": principal},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": target.external_id}},
            }
        ],
    }


def _permissions(target: Target) -> Json:
    partition, account_id = target.role_arn.split(":")[1], target.account_id
    kinds = [f"arn:{partition}:iam::{account_id}:{noun.lower()}/*" for noun in _NOUNS]
    elsewhere = {"ReadPolicies": ["*"]}  # AWS's own policies are in no account
    return {
        "Version": "2012-10-17",
        "Statement": [
            *(
                {
                    "Sid": sid,
                    "Effect": "Allow",
                    "Action": list(operations),
                    "Resource": elsewhere.get(sid, kinds),
                }
                for sid, operations in OPERATIONS.items()
            ),
            {
                "Sid": "ExamineOwnPermissions",
                "Effect": "Allow",
                "Action": "iam:SimulatePrincipalPolicy",
                "Resource": target.role_arn,
            },
            {
                "Sid": "NeverChangeItself",
                "Effect": "Deny",
                "Action": [
                    *(f"iam:{verb}RolePolicy" for verb in ("Attach", "Detach", "Put", "Delete")),
                    "iam:UpdateAssumeRolePolicy",
                    "iam:DeleteRole",
                ],
                "Resource": target.role_arn,
            },
        ],
    }


def _ourselves() -> str:
    """Return the ARN under which AWS knows this process; raises ConfigurationError."""
    settings = load_aws_settings()
    try:
        client = Session().create_client(
            "sts", region_name=settings.region, endpoint_url=settings.endpoint_url
        )
        return str(call(client, "GetCallerIdentity", {}, [])["Arn"])
    except BridgeError as exc:
        raise ConfigurationError(
            f"--principal: give the platform's own ARN, as AWS does not tell it ({exc})"
        ) from exc


def _identity() -> Finding:
    try:
        arn = _ourselves()
    except ConfigurationError as exc:
        return Finding(
            check="the platform's own identity",
            verdict="failed",
            detail=str(exc),
            remedy="give this shell the credentials that the AWS worker has",
        )
    return Finding(check="the platform's own identity", verdict="ok", detail=arn)


def _entry(aws: Aws, target: Target) -> Finding:
    try:
        _enter(aws, target)
    except AwsError as exc:
        passing = exc.retryable
        return Finding(
            check="enter with our ExternalId",
            verdict="unknown" if passing else "failed",
            detail=str(exc),
            remedy="try again"
            if passing
            else f"paste the trust policy of `csbctl account show` into {target.role_arn}, "
            "and allow the platform's identity sts:AssumeRole on it",
        )
    return Finding(check="enter with our ExternalId", verdict="ok", detail=target.role_arn)


def _stranger(aws: Aws, target: Target) -> Finding:
    """Whether the role is closed to those who do not know the ExternalId."""
    check = "refuse any other ExternalId"
    try:
        _enter(aws, replace(target, external_id=f"csb-wrong-{secrets.token_hex(8)}"))
    except AwsError as exc:
        if exc.fault.error_class == "ACCESS_DENIED":
            return Finding(check=check, verdict="ok", detail="a wrong ExternalId was refused")
        return Finding(check=check, verdict="unknown", detail=str(exc), remedy="try again")
    return Finding(
        check=check,
        verdict="warning",
        detail="the role lets us in with a wrong ExternalId: it trusts too much",
        remedy="add the condition StringEquals sts:ExternalId of `csbctl account show` to its "
        "trust policy",
    )


def _enter(aws: Aws, target: Target) -> AccountSession:
    everything = [operation for operations in OPERATIONS.values() for operation in operations]
    statements: list[Statement] = [allow(["iam:SimulatePrincipalPolicy", *everything], ["*"])]
    return aws.enter(
        target,
        uuid4(),
        statements,
        refs=[],
        before_write=lambda: None,
        ends_at=time.monotonic() + _PATIENCE_SECONDS,
    )


def _powers(aws: Aws, target: Target) -> list[Finding]:
    """What the role may do there, one finding for each thing that it is for."""
    session = _enter(aws, target)
    decisions = _simulated(session, target)
    how = "as IAM simulates it" if decisions else "as tried on a principal that cannot exist"
    findings = []
    for purpose, operations in OPERATIONS.items():
        rulings = {op: decisions[op] if decisions else _tried(session, op) for op in operations}
        denied = sorted(op for op, ruling in rulings.items() if ruling is False)
        unclear = sorted(op for op, ruling in rulings.items() if ruling is None)
        verdict: Verdict = "failed" if denied else "unknown" if unclear else "ok"
        findings.append(
            Finding(
                check=purpose,
                verdict=verdict,
                detail=_told(denied, unclear) or f"allowed, {how}",
                remedy="paste the permissions policy of `csbctl account show`" if denied else "",
            )
        )
    return findings


def _told(denied: Sequence[str], unclear: Sequence[str]) -> str:
    parts = ("denied", denied), ("not to be found out", unclear)
    return "; ".join(f"{what}: {', '.join(which)}" for what, which in parts if which)


def _simulated(session: AccountSession, target: Target) -> dict[str, bool | None]:
    """Ask IAM about every operation; an empty answer when it does not simulate for us."""
    operations = [op for group in OPERATIONS.values() for op in group]
    try:
        results = session.pages(
            "iam",
            "SimulatePrincipalPolicy",
            "EvaluationResults",
            PolicySourceArn=target.role_arn,
            ActionNames=operations,
        )
    except AwsError:
        return {}
    decisions: dict[str, bool | None] = dict.fromkeys(operations)
    decisions.update({r["EvalActionName"]: r["EvalDecision"] == "allowed" for r in results})
    return decisions


def _tried(session: AccountSession, operation: str) -> bool | None:
    """Try an operation where it can have no effect; None when the answer tells nothing."""
    name = operation.removeprefix("iam:")
    nobody = f"csb-doctor-{secrets.token_hex(12)}"
    parameters = {f"{noun}Name": nobody for noun in _NOUNS if noun in name}
    if name == "GetPolicy" or name.startswith(("Attach", "Detach")):
        parameters["PolicyArn"] = _policy_arn(session.target, nobody)
    try:
        session.call("iam", name, **parameters)
    except AwsError as exc:
        return {"NOT_FOUND": True, "ACCESS_DENIED": False}.get(exc.fault.error_class)
    return True


def _policy_arn(target: Target, name: str) -> str:
    partition = target.role_arn.split(":")[1]
    return f"arn:{partition}:iam::{target.account_id}:policy/{name}"
