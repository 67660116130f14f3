"""What moto leaves out of attaching: the quota, and the roles that only AWS may change."""

from __future__ import annotations

from dataclasses import dataclass

from worker_service_aws.local_aws import directory
from worker_service_aws.local_aws.call import Call
from worker_service_aws.local_aws.refusal import Refusal

QUOTA = 10
_OPERATIONS = {
    f"{verb}{noun}Policy": (verb, noun.lower(), f"{noun}Name")
    for verb in ("Attach", "Detach")
    for noun in ("User", "Role", "Group")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The pair that an attach or a detach is about."""

    account_id: str
    verb: str
    kind: str
    name: str
    policy_arn: str

    def attached(self) -> frozenset[str]:
        """What is attached to the principal now."""
        return directory.attached(self.account_id, self.kind, self.name)

    def require_possible(self) -> None:
        """Return if AWS would do it; raise Refusal for a full or a protected principal."""
        arn = directory.principal_arn(self.account_id, self.kind, self.name)
        if self.kind == "role" and ":role/aws-" in arn:
            raise Refusal(
                "UnmodifiableEntity",
                f"Cannot perform the operation on the protected role '{self.name}' "
                "- this role is only modifiable by AWS",
            )
        now = self.attached()
        if self.verb == "Attach" and self.policy_arn not in now and len(now) >= QUOTA:
            quota = f"PoliciesPer{self.kind.title()}"
            raise Refusal("LimitExceeded", f"Cannot exceed quota for {quota}: {QUOTA}", status=409)


def attachment_of(account_id: str, call: Call) -> Attachment | None:
    """Read an attach or detach; None for every other call."""
    if call.service != "iam" or call.operation not in _OPERATIONS:
        return None
    verb, kind, parameter = _OPERATIONS[call.operation]
    return Attachment(
        account_id=account_id,
        verb=verb,
        kind=kind,
        name=call.parameters.get(parameter, ""),
        policy_arn=call.parameters.get("PolicyArn", ""),
    )
