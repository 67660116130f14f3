"""What gunicorn serves to measure room: the real worker; its action leaves what AWS's leave."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from csb_core.models import Json, Lease, Outcome, Ref, Succeeded
from csb_core.worker import main as worker
from csb_core.worker.action import Attempt

#: The calls of `attach_policy`, each of which AWS gives an id of 36 characters.
_CALLS: Final = (
    ("sts", "AssumeRole"),
    ("iam", "GetUser"),
    ("iam", "ListAttachedUserPolicies"),
    ("iam", "AttachUserPolicy"),
    ("iam", "GetUser"),
    ("iam", "ListAttachedUserPolicies"),
)
_POLICY: Final = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """Succeeds at once, with the result and the references of a policy that was attached."""

    deadline: timedelta = timedelta(minutes=5)

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        """Do nothing, and tell of it at the length of the real one."""
        del attempt
        return Succeeded(result=_result(), changed=True, refs=_refs(lease))


def _result() -> Json:
    name = "on-call-engineer-of-the-week"
    principal = {
        "id": "AIDA0123456789ABCDEF",
        "arn": f"arn:aws:iam::111122223333:user/people/{name}",
        "name": name,
        "type": "user",
    }
    return {
        "before": {"principal": principal, "attached_policies": []},
        "after": {"principal": principal, "attached_policies": [_POLICY]},
        "inverse": {
            "action": "detach_policy",
            "principal": {"name": name, "type": "user"},
            "parameters": {"policy_arn": _POLICY},
        },
        "verified": True,
    }


def _refs(lease: Lease) -> tuple[Ref, ...]:
    session = f"AROA0123456789ABCDEF:csb-{lease.correlation_id}"
    entered = Ref(type="aws_assumed_role", value=session, service="sts", operation="AssumeRole")
    last = str(lease.correlation_id)
    return entered, *(
        Ref(type="aws_request_id", value=f"{n:08x}{last[8:]}", service=service, operation=call)
        for n, (service, call) in enumerate(_CALLS)
    )


app = worker.create("aws", {"attach_policy": Full()})
