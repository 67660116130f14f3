"""Attaching a managed policy to a principal, and detaching it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from csb_core.models import Json, Lease, Target
from worker_service_aws.actions.change import Call, Change, Plan
from worker_service_aws.calls import AccountSession
from worker_service_aws.codes import ErrorClass
from worker_service_aws.faults import Fault, FinalError
from worker_service_aws.principals import Principal, read_principal
from worker_service_aws.session_policy import Statement, allow

#: No `*`, `?` or `$`: in a session policy they would stand for other policies too.
_POLICY_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):iam::(aws|\d{12}):policy/"
    r"([!-#%-)+-.0->@-~]+/)*[A-Za-z0-9_+=,.@-]{1,128}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A policy that is to be attached to a principal, or not to be."""

    target: Target
    principal: Principal
    policy_arn: str
    wanted: bool
    dry_run: bool

    @property
    def reads(self) -> list[Statement]:
        """Look the principal up, list what it carries; a plan also asks whether the policy is."""
        noun = self.principal.kind.noun
        actions = [f"iam:Get{noun}", f"iam:ListAttached{noun}Policies"]
        statements = [allow(actions, self.principal.arns(self.target))]
        if self._asks_for_policy:
            statements.append(allow(["iam:GetPolicy"], [self.policy_arn]))
        return statements

    @property
    def writes(self) -> list[Statement]:
        """One operation, on one principal, with one policy."""
        condition = {"ArnEquals": {"iam:PolicyARN": self.policy_arn}}
        return [allow([f"iam:{self._operation}"], self.principal.arns(self.target), condition)]

    def read(self, aws: AccountSession) -> Json:
        """The principal, and the ARNs of everything attached to it."""
        principal = self.principal.look_up(aws)
        attached = aws.pages(
            "iam",
            f"ListAttached{self.principal.kind.noun}Policies",
            "AttachedPolicies",
            **self.principal.named,
        )
        if self._asks_for_policy:
            aws.call("iam", "GetPolicy", PolicyArn=self.policy_arn)
        return {
            "principal": principal,
            "attached_policies": sorted(one["PolicyArn"] for one in attached),
        }

    def decide(self, state: Json) -> Plan | None:
        """One call, or none."""
        if (self.policy_arn in state["attached_policies"]) == self.wanted:
            return None
        parameters = self.principal.named | {"PolicyArn": self.policy_arn}
        return Plan(
            calls=(Call(service="iam", operation=self._operation, parameters=parameters),),
            inverse={
                "action": "detach_policy" if self.wanted else "attach_policy",
                "principal": {"type": self.principal.kind.type, "name": self.principal.name},
                "parameters": {"policy_arn": self.policy_arn},
            },
        )

    def apply(self, aws: AccountSession, plan: Plan) -> None:
        """Make the call. Detaching what somebody else has just detached is as good."""
        for call in plan.calls:
            try:
                aws.call(call.service, call.operation, **call.parameters)
            except FinalError as exc:
                if self.wanted or exc.fault.error_class is not ErrorClass.NOT_FOUND:
                    raise
                self.principal.look_up(aws)  # raises when it is the principal that is missing

    @property
    def _operation(self) -> str:
        return f"{'Attach' if self.wanted else 'Detach'}{self.principal.kind.noun}Policy"

    @property
    def _asks_for_policy(self) -> bool:
        return self.dry_run and self.wanted


def attachment(*, wanted: bool) -> Callable[[Lease, Target], Change]:
    """What makes an Attachment of a lease; raises FinalError when the lease makes no sense."""

    def prepare(lease: Lease, target: Target) -> Change:
        return Attachment(
            target=target,
            principal=read_principal(lease.principal, target),
            policy_arn=_policy_arn(lease.parameters, target),
            wanted=wanted,
            dry_run=lease.dry_run,
        )

    return prepare


def _policy_arn(parameters: Json, target: Target) -> str:
    arn = str(parameters.get("policy_arn", ""))
    found = _POLICY_ARN.fullmatch(arn)
    partition = target.role_arn.split(":")[1]
    if found is None or found["partition"] != partition:
        raise FinalError(
            Fault(
                error_class=ErrorClass.INVALID,
                code="InvalidPolicyArn",
                message=f"no ARN of a managed policy in the account's partition {partition}",
            )
        )
    return arn
