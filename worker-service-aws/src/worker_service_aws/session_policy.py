"""The policy that is laid over a session: just this action, on just this thing."""

from __future__ import annotations

import json
from typing import Final

from csb_core.models import Json
from worker_service_aws.codes import ErrorClass
from worker_service_aws.faults import Fault, FinalError

#: What AWS takes as plain text; how well it packs is told by PackedPolicySize.
LONGEST: Final = 2048

Statement = Json


def allow(actions: list[str], resources: list[str], condition: Json | None = None) -> Statement:
    """One statement; whatever no statement allows is denied."""
    statement: Statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return statement | ({"Condition": condition} if condition else {})


def document(statements: list[Statement]) -> str:
    """The policy's text; raises FinalError when AWS would not take it."""
    text = json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
    if len(text) > LONGEST:
        raise FinalError(
            Fault(
                error_class=ErrorClass.INVALID,
                code="PackedPolicyTooLarge",
                message=f"the names are too long for a session policy of {LONGEST} characters",
            )
        )
    return text
