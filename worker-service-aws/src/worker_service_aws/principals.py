"""The three kinds of IAM principal, as data: what differs between them is their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from csb_core.models import Json, Target
from worker_service_aws.calls import AccountSession
from worker_service_aws.codes import ErrorClass
from worker_service_aws.faults import Fault, FinalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of principal, and how IAM's operations call it."""

    type: str
    noun: str
    longest: int

    @property
    def parameter(self) -> str:
        """The parameter that takes its name."""
        return f"{self.noun}Name"


KINDS: Final = {
    "user": Kind(type="user", noun="User", longest=64),
    "role": Kind(type="role", noun="Role", longest=64),
    "group": Kind(type="group", noun="Group", longest=128),
}

#: IAM's own alphabet for names. It holds no wildcard and no slash, so a name in a session policy
#: means one principal.
_NAME: Final = re.compile(r"[A-Za-z0-9_+=,.@-]+")

#: Roles that belong to AWS: service-linked ones, and those that Identity Center provisions.
_AWS_PATHS: Final = ("/aws-service-role/", "/aws-reserved/")
_AWS_NAMES: Final = ("awsservicerolefor", "awsreservedsso_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """One user, role or group of an account."""

    kind: Kind
    name: str

    @property
    def named(self) -> Json:
        """The parameter that names it in a call."""
        return {self.kind.parameter: self.name}

    def arns(self, target: Target) -> list[str]:
        """Patterns that match its ARN and no other principal's, whatever its path."""
        partition = target.role_arn.split(":")[1]
        stem = f"arn:{partition}:iam::{target.account_id}:{self.kind.type}"
        return [f"{stem}/{self.name}", f"{stem}/*/{self.name}"]

    def look_up(self, aws: AccountSession) -> Json:
        """Return what IAM says about it; raises FinalError when it is missing or AWS's own."""
        noun = self.kind.noun
        found: Any = aws.call("iam", f"Get{noun}", **self.named)[noun]
        if found.get("Path", "/").startswith(_AWS_PATHS):
            raise protected(self)
        return {
            "type": self.kind.type,
            "name": found[self.kind.parameter],
            "arn": found["Arn"],
            "id": found[f"{noun}Id"],
        }


def read_principal(principal: Json | None, target: Target) -> Principal:
    """Check the request's principal; raises FinalError when it may not or cannot be acted on."""
    given = principal or {}
    kind, name = KINDS.get(str(given.get("type"))), str(given.get("name", ""))
    if kind is None or not _NAME.fullmatch(name) or len(name) > kind.longest:
        raise FinalError(
            Fault(
                error_class=ErrorClass.INVALID,
                code="InvalidPrincipal",
                message="the principal is no user, role or group that IAM could have",
            )
        )
    found = Principal(kind=kind, name=name)
    if kind.type == "role" and _is_protected(name, target):
        raise protected(found)
    return found


def _is_protected(name: str, target: Target) -> bool:
    """IAM tells names apart without regard to case, so we do too."""
    executor = target.role_arn.rpartition("/")[2]
    return name.lower() == executor.lower() or name.lower().startswith(_AWS_NAMES)


def protected(principal: Principal) -> FinalError:
    """The refusal to touch the executor's own role, or a role that belongs to AWS."""
    return FinalError(
        Fault(
            error_class=ErrorClass.PROTECTED,
            code="ProtectedPrincipal",
            message=f"{principal.kind.type} {principal.name} is protected: it lets the platform "
            "in, or belongs to AWS",
        )
    )
