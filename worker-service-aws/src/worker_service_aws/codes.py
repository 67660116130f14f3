"""The table of AWS's error codes: which pass, which are final, and what a tenant reads.

Codes are wire codes: IAM sends `NoSuchEntity`, not `NoSuchEntityException`. The table is read per
service first, because one code may mean two things: botocore counts `LimitExceededException` as
throttling, IAM's `LimitExceeded` is a quota that no patience mends.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final


class ErrorClass(StrEnum):
    """What a tenant reads as `error.class`."""

    THROTTLED = "THROTTLED"
    UNAVAILABLE = "UNAVAILABLE"
    NETWORK = "NETWORK"
    CONTENTION = "CONTENTION"
    CREDENTIALS = "CREDENTIALS"
    ACCESS_DENIED = "ACCESS_DENIED"
    NOT_FOUND = "NOT_FOUND"
    INVALID = "INVALID"
    CONFLICT = "CONFLICT"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    PROTECTED = "PROTECTED"
    NOT_VERIFIED = "NOT_VERIFIED"
    UNCLASSIFIED = "UNCLASSIFIED"


_C = ErrorClass

PASSING: Final[Mapping[str, ErrorClass]] = {
    "Throttling": _C.THROTTLED,
    "ThrottlingException": _C.THROTTLED,
    "ThrottledException": _C.THROTTLED,
    "RequestThrottled": _C.THROTTLED,
    "RequestThrottledException": _C.THROTTLED,
    "TooManyRequestsException": _C.THROTTLED,
    "RequestLimitExceeded": _C.THROTTLED,
    "BandwidthLimitExceeded": _C.THROTTLED,
    "SlowDown": _C.THROTTLED,
    "PriorRequestNotComplete": _C.THROTTLED,
    "RequestTimeout": _C.UNAVAILABLE,
    "RequestTimeoutException": _C.UNAVAILABLE,
    "ServiceFailure": _C.UNAVAILABLE,
    "InternalFailure": _C.UNAVAILABLE,
    "ServiceUnavailable": _C.UNAVAILABLE,
    "InternalServerException": _C.UNAVAILABLE,
    "IDPCommunicationError": _C.UNAVAILABLE,
    "ConcurrentModification": _C.CONTENTION,
    "EntityTemporarilyUnmodifiable": _C.CONTENTION,
}

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})

FINAL: Final[Mapping[str, ErrorClass]] = {
    "AccessDenied": _C.ACCESS_DENIED,
    "AccessDeniedException": _C.ACCESS_DENIED,
    "UnauthorizedOperation": _C.ACCESS_DENIED,
    "RegionDisabledException": _C.ACCESS_DENIED,
    "OptInRequired": _C.ACCESS_DENIED,
    "InvalidClientTokenId": _C.CREDENTIALS,
    "SignatureDoesNotMatch": _C.CREDENTIALS,
    "NoSuchEntity": _C.NOT_FOUND,
    "ResourceNotFoundException": _C.NOT_FOUND,
    "MalformedPolicyDocument": _C.INVALID,
    "InvalidInput": _C.INVALID,
    "ValidationError": _C.INVALID,
    "ValidationException": _C.INVALID,
    "PolicyNotAttachable": _C.INVALID,
    "PasswordPolicyViolation": _C.INVALID,
    "PackedPolicyTooLarge": _C.INVALID,
    "NotSupportedService": _C.INVALID,
    "PolicyEvaluation": _C.INVALID,  # sent with a 500, yet no passing fault
    "UnmodifiableEntity": _C.PROTECTED,
    "LimitExceeded": _C.LIMIT_EXCEEDED,
    "LimitExceededException": _C.LIMIT_EXCEEDED,
    "ServiceQuotaExceededException": _C.LIMIT_EXCEEDED,
    "EntityAlreadyExists": _C.CONFLICT,
    "DeleteConflict": _C.CONFLICT,
}

#: Where a service means something of its own by a code.
PASSING_BY_SERVICE: Final[Mapping[tuple[str, str], ErrorClass]] = {
    ("sso-admin", "ConflictException"): _C.CONTENTION,  # another operation is in progress
}
FINAL_BY_SERVICE: Final[Mapping[tuple[str, str], ErrorClass]] = {
    ("identitystore", "ConflictException"): _C.CONFLICT,  # already a member
}

#: AWS asks for patience beyond an ordinary backoff: "after waiting several minutes".
PATIENCE: Final[Mapping[str, timedelta]] = {
    "ConcurrentModification": timedelta(seconds=20),
    "EntityTemporarilyUnmodifiable": timedelta(minutes=2),
}

#: Said by STS, these speak of our own long-term identity, which no tenant can mend.
OUR_IDENTITY: Final = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch"}) | EXPIRED

BAD_STATUS: Final[Mapping[int, ErrorClass]] = {
    429: _C.THROTTLED,
    500: _C.UNAVAILABLE,
    502: _C.UNAVAILABLE,
    503: _C.UNAVAILABLE,
    504: _C.UNAVAILABLE,
}

#: Operations that may be sent again when nobody knows whether they were performed.
_REPEATABLE: Final = (
    "Get",
    "List",
    "Describe",
    "Simulate",
    "Generate",
    "Lookup",
    "Validate",
    "Check",
    "Is",
    "Decode",
    "AssumeRole",
)


def repeatable(operation: str) -> bool:
    """Whether the operation changes nothing, so that it may be sent twice."""
    return operation.startswith(_REPEATABLE)
