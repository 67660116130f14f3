"""AssumeRole as AWS guards it: the parameters, the caller's permission, the role's trust."""

from __future__ import annotations

import json
import re
from typing import Any

from moto.iam.models import Role

from worker_service_aws.local_aws import directory
from worker_service_aws.local_aws.call import Call
from worker_service_aws.local_aws.callers import Caller
from worker_service_aws.local_aws.permission import context_of, require_allowed
from worker_service_aws.local_aws.policy import Document, conditions_hold, listed, matches
from worker_service_aws.local_aws.refusal import Refusal, access_denied, invalid

MAX_POLICY = 2048
_SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")


def require_trust(caller: Caller, call: Call) -> None:
    """Return if the caller may assume the role, with these parameters; raise Refusal if not.

    Both sides must agree: the caller's own policies and the role's trust policy.
    """
    _check_parameters(call)
    role_arn = call.parameters["RoleArn"]
    if caller.kind == "root":
        raise access_denied("Roles may not be assumed by root accounts.")
    require_allowed(caller, call.action, role_arn, role_arn, context_of(caller, call))

    role = directory.role_by_arn(role_arn)
    if role is None or not _trusted(role, caller, call):
        raise access_denied(
            f"User: {caller.arn} is not authorized to perform: sts:AssumeRole "
            f"on resource: {role_arn}"
        )
    _check_duration(role, caller, call)


def session_policy_of(call: Call) -> Document | None:
    """The policy that the caller lays over the session."""
    text = call.parameters.get("Policy")
    if text is None:
        return None
    try:
        document: Any = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "Statement" not in document:
        raise Refusal("MalformedPolicyDocument", "This policy contains invalid Json")
    return document


def duration_of(call: Call) -> int:
    """How many seconds the session is to last."""
    return int(call.parameters.get("DurationSeconds", "3600"))


def _check_parameters(call: Call) -> None:
    if not re.fullmatch(r"arn:aws:iam::\d{12}:role/\S+", call.parameters.get("RoleArn", "")):
        raise invalid("Value at 'roleArn' failed to satisfy constraint: not the ARN of a role")
    if not _SESSION_NAME.fullmatch(call.parameters.get("RoleSessionName", "")):
        raise invalid(
            "Value at 'roleSessionName' failed to satisfy constraint: Member must satisfy "
            r"regular expression pattern: [\w+=,.@-]* and have 2 to 64 characters"
        )
    external_id = call.parameters.get("ExternalId")
    if external_id is not None and not _EXTERNAL_ID.fullmatch(external_id):
        raise invalid(
            "Value at 'externalId' failed to satisfy constraint: Member must satisfy "
            r"regular expression pattern: [\w+=,.@:\/-]* and have 2 to 1224 characters"
        )
    if not 900 <= duration_of(call) <= 43200:
        raise invalid(
            f"Value '{duration_of(call)}' at 'durationSeconds' failed to satisfy constraint: "
            "Member must have value between 900 and 43200"
        )
    if len(call.parameters.get("Policy", "")) > MAX_POLICY:
        size = 100 * len(call.parameters["Policy"]) // MAX_POLICY
        raise Refusal(
            "PackedPolicyTooLarge",
            f"Serialized token too large for session. Packed size {size}% of allotted space.",
        )
    session_policy_of(call)


def _check_duration(role: Role, caller: Caller, call: Call) -> None:
    longest = 3600 if caller.kind == "role" else int(role.max_session_duration or 3600)
    if duration_of(call) > longest:
        raise Refusal(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )


def _trusted(role: Role, caller: Caller, call: Call) -> bool:
    needed = {"sts:AssumeRole"}
    if "SourceIdentity" in call.parameters:
        needed.add("sts:SetSourceIdentity")
    if any(key.startswith("Tags.member") for key in call.parameters):
        needed.add("sts:TagSession")
    return all(_allows(directory.trust_policy(role), action, caller, call) for action in needed)


def _allows(trust: Document, action: str, caller: Caller, call: Call) -> bool:
    context = context_of(caller, call)
    allowed = False
    for statement in listed(trust.get("Statement", [])):
        denies = statement.get("Effect") == "Deny"
        applies = (
            any(matches(one.lower(), action.lower()) for one in listed(statement.get("Action", [])))
            and _names(statement.get("Principal", {}), caller)
            and conditions_hold(statement, context, unknown=denies)
        )
        if applies and denies:
            return False
        allowed = allowed or applies
    return allowed


def _names(principal: Any, caller: Caller) -> bool:
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return False
    account_wide = {caller.account_id, f"arn:{directory.PARTITION}:iam::{caller.account_id}:root"}
    known_as = {"*", caller.arn, caller.principal_arn, *account_wide}
    return any(one in known_as for one in listed(principal.get("AWS", [])))
