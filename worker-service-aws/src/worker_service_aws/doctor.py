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

from botocore.exceptions import BotoCoreError
from botocore.session import Session

from csb_core.errors import BridgeError, ConfigurationError
from csb_core.examination import Finding
from csb_core.models import Json, Target
from worker_service_aws import powers
from worker_service_aws.calls import AccountSession, call
from worker_service_aws.clients import Aws
from worker_service_aws.faults import AwsError
from worker_service_aws.session_policy import Statement, allow
from worker_service_aws.settings import load_aws_settings

_ACCOUNT: Final = re.compile(r"\d{12}")
_ROLE_NAME: Final = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_ROLE_ARN: Final = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/([!-~]+/)?[\w+=,.@-]{1,64}")
_SESSION_ARN: Final = re.compile(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+")

_PATIENCE_SECONDS: Final = 60


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
    return {
        **trust(target, principal=principal),
        f"Permissions policy of the role {_role(target)}": _permissions(target),
    }


def trust(target: Target, *, principal: str | None, retiring: str | None = None) -> dict[str, Json]:
    """Return the role's trust policy; with `retiring`, one that accepts that ExternalId as well.

    Raises ConfigurationError when `principal` is not given and AWS does not tell who we are.
    """
    accepted = target.external_id if retiring is None else [retiring, target.external_id]
    document = _trust(principal or _ourselves(), accepted)
    return {f"Trust policy of the role {_role(target)}": document}


def enter(target: Target) -> Finding:
    """Try the way in, and nothing else."""
    identity = _identity()
    return _entry(Aws(load_aws_settings()), target) if identity.verdict == "ok" else identity


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
    return [identity, entry, _stranger(aws, target), *powers.findings(_enter(aws, target))]


def examine_here() -> Sequence[Finding]:
    """Say as whom AWS knows us."""
    return [_identity()]


def _role(target: Target) -> str:
    return target.role_arn.rpartition("/")[2]


def _trust(principal: str, external_ids: str | list[str]) -> Json:
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
                "Condition": {"StringEquals": {"sts:ExternalId": external_ids}},
            }
        ],
    }


def _permissions(target: Target) -> Json:
    partition, account_id = target.role_arn.split(":")[1], target.account_id
    kinds = [f"arn:{partition}:iam::{account_id}:{noun.lower()}/*" for noun in powers.NOUNS]
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
                for sid, operations in powers.OPERATIONS.items()
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
    except (BridgeError, BotoCoreError, ValueError) as exc:  # a profile or an endpoint of no use
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
    everything = [
        operation for operations in powers.OPERATIONS.values() for operation in operations
    ]
    statements: list[Statement] = [allow(["iam:SimulatePrincipalPolicy", *everything], ["*"])]
    return aws.enter(
        target,
        uuid4(),
        statements,
        refs=[],
        before_write=lambda: None,
        ends_at=time.monotonic() + _PATIENCE_SECONDS,
    )
