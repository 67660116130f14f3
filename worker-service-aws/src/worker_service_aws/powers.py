"""What the role that we enter may do in its account: asked of IAM, or else tried without effect."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from csb_core.examination import Finding, Verdict
from csb_core.models import Json
from worker_service_aws.calls import AccountSession
from worker_service_aws.faults import AwsError

NOUNS: Final = ("User", "Role", "Group")

#: What the actions call, by what it is for. A test holds it against the actions themselves.
OPERATIONS: Final = {
    "ReadPrincipals": tuple(f"iam:Get{noun}" for noun in NOUNS),
    "ReadAttachments": tuple(f"iam:ListAttached{noun}Policies" for noun in NOUNS),
    "ReadPolicies": ("iam:GetPolicy",),
    "ChangeAttachments": tuple(
        f"iam:{verb}{noun}Policy" for verb in ("Attach", "Detach") for noun in NOUNS
    ),
}

#: The same by what a request asks for, as an operator reads it.
ABILITIES: Final = {
    f"{verb.lower()}_policy on {noun.lower()}s": (
        f"iam:Get{noun}",
        f"iam:ListAttached{noun}Policies",
        f"iam:{verb}{noun}Policy",
    )
    for verb in ("Attach", "Detach")
    for noun in NOUNS
} | {"dry_run": ("iam:GetPolicy",)}

#: Whether an operation is allowed; None when that cannot be found out.
Rulings = Mapping[str, bool | None]


def findings(session: AccountSession) -> list[Finding]:
    """Say of each action and kind of principal whether the role may do what it needs."""
    simulated = _simulated(session)
    rulings = simulated or {
        operation: _tried(session, operation)
        for operations in OPERATIONS.values()
        for operation in operations
    }
    how = "as IAM simulates it" if simulated else "as tried on a principal that cannot exist"
    return [_finding(ability, needed, rulings, how) for ability, needed in ABILITIES.items()]


def _finding(ability: str, needed: Sequence[str], rulings: Rulings, how: str) -> Finding:
    denied = [operation for operation in needed if rulings[operation] is False]
    unclear = [operation for operation in needed if rulings[operation] is None]
    verdict: Verdict = "failed" if denied else "unknown" if unclear else "ok"
    remedy = {
        "failed": "paste the permissions policy of `csbctl account show`",
        "unknown": "post a request with dry_run, or look at the conditions of the role's policies",
    }
    return Finding(
        check=ability,
        verdict=verdict,
        detail=_told(denied, unclear) or f"allowed, {how}",
        remedy=remedy.get(verdict, ""),
    )


def _told(denied: Sequence[str], unclear: Sequence[str]) -> str:
    parts = ("denied", denied), ("not to be found out", unclear)
    return "; ".join(f"{what}: {', '.join(which)}" for what, which in parts if which)


def _simulated(session: AccountSession) -> Rulings:
    """Ask IAM about every operation; an empty answer when it does not simulate for us.

    Each is asked about a thing of its own kind: about no thing in particular, IAM answers no
    wherever a policy names its resources, as ours does.
    """
    nobody = f"csb-doctor-{secrets.token_hex(12)}"
    by_thing: dict[str, list[str]] = {}
    for operation in (op for group in OPERATIONS.values() for op in group):
        by_thing.setdefault(_arn(session, _kind(operation), nobody), []).append(operation)

    rulings: dict[str, bool | None] = {}
    try:
        for thing, operations in by_thing.items():
            rulings |= dict.fromkeys(operations)
            answers = session.pages(
                "iam",
                "SimulatePrincipalPolicy",
                "EvaluationResults",
                PolicySourceArn=session.target.role_arn,
                ActionNames=operations,
                ResourceArns=[thing],
            )
            rulings |= {answer["EvalActionName"]: _ruling(answer) for answer in answers}
    except AwsError:
        return {}
    return rulings


def _ruling(answer: Json) -> bool | None:
    """A no that hangs on what nobody told the simulation, as the policy attached, is none yet."""
    if answer["EvalDecision"] == "allowed":
        return True
    parts = [answer, *answer.get("ResourceSpecificResults", ())]
    return None if any(part.get("MissingContextValues") for part in parts) else False


def _tried(session: AccountSession, operation: str) -> bool | None:
    """Try an operation where it can have no effect; None when the answer tells nothing."""
    name = operation.removeprefix("iam:")
    nobody = f"csb-doctor-{secrets.token_hex(12)}"
    parameters = {f"{noun}Name": nobody for noun in NOUNS if noun in name}
    if name == "GetPolicy" or name.startswith(("Attach", "Detach")):
        parameters["PolicyArn"] = _arn(session, "policy", nobody)
    try:
        session.call("iam", name, **parameters)
    except AwsError as exc:
        return {"NOT_FOUND": True, "ACCESS_DENIED": False}.get(exc.fault.error_class)
    return True


def _kind(operation: str) -> str:
    """Return what kind of thing an operation is done to."""
    return next((noun.lower() for noun in NOUNS if noun in operation), "policy")


def _arn(session: AccountSession, kind: str, name: str) -> str:
    partition = session.target.role_arn.split(":")[1]
    return f"arn:{partition}:iam::{session.target.account_id}:{kind}/{name}"
