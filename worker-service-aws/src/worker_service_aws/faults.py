"""What AWS's errors mean for a request: one class per reaction; `codes` holds the table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from csb_core.errors import BridgeError, ConfigurationError
from worker_service_aws import codes
from worker_service_aws.codes import ErrorClass, repeatable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One error, ready to be recorded."""

    error_class: ErrorClass
    code: str
    message: str
    after: timedelta | None = None


class AwsError(BridgeError):
    """AWS did not do what it was asked; the leaf says how to react."""

    code = "aws_error"

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.code}: {fault.message}")
        self.fault = fault


class PassingError(AwsError):
    """It may work later: give the request back."""

    retryable = True


class FinalError(AwsError):
    """It will not work later either: the request has failed."""


class OutcomeUnknown(AwsError):
    """A write was sent and its answer lost: read before deciding anything."""

    retryable = True


class CredentialsExpired(AwsError):
    """The session is over: open a new one, once."""

    retryable = True


_OUR_CONFIGURATION: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.ProfileNotFound,
    boto.NoRegionError,
)
_NEVER_ARRIVED: Final = (
    boto.EndpointConnectionError,
    boto.ConnectTimeoutError,
    boto.ProxyConnectionError,
)
_BROKEN_OFF: Final = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    ResponseParserError,
)


class AnswerLost(boto.BotoCoreError):
    """A write broke off after it was sent. botocore does not know it, so it does not resend."""

    fmt = "the answer was lost: {reason}"


class OutOfTime(boto.BotoCoreError):
    """The attempt has no time left for another call; nothing was sent."""

    fmt = "no time left in this attempt"


def refused(response: Mapping[str, Any], *, service: str, operation: str) -> BridgeError:
    """Classify an error that AWS answered with."""
    error = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    code = str(error.get("Code") or "Unknown")
    status = int(metadata.get("HTTPStatusCode") or 0)
    message = _told(code, str(error.get("Message") or ""), service, operation)
    kind, error_class = _look_up(service, code, status)

    if kind is None:
        return ConfigurationError(f"{service}:{operation} refuses the platform's identity: {code}")
    if error_class is ErrorClass.UNCLASSIFIED:
        logger.warning(
            "aws.error_unclassified",
            extra={"service": service, "operation": operation, "code": code, "status": status},
        )
    after = _asked_for(metadata.get("HTTPHeaders", {})) or codes.PATIENCE.get(code)
    return kind(Fault(error_class=error_class, code=code, message=message, after=after))


def broken(exc: Exception, *, service: str, operation: str) -> BridgeError:
    """Classify an error that kept the call or its answer from arriving.

    Its text is not repeated: it may hold the address, and the password, of a proxy.
    """
    name = type(exc).__name__
    if isinstance(exc, _OUR_CONFIGURATION):
        return ConfigurationError(f"the platform has no usable AWS credentials ({name})")

    where = f"{service}:{operation}"
    network = Fault(
        error_class=ErrorClass.NETWORK, code=name, message=f"no answer to {where} ({name})"
    )
    if isinstance(exc, (*_NEVER_ARRIVED, OutOfTime)):
        return PassingError(network)
    if isinstance(exc, (*_BROKEN_OFF, AnswerLost)):
        return PassingError(network) if repeatable(operation) else OutcomeUnknown(network)
    if isinstance(exc, boto.ParamValidationError):
        text = f"{where} does not take these parameters"
        return FinalError(Fault(error_class=ErrorClass.INVALID, code=name, message=text))
    logger.warning("aws.error_unclassified", extra={"operation": operation, "code": name})
    text = f"{where} failed ({name})"
    return FinalError(Fault(error_class=ErrorClass.UNCLASSIFIED, code=name, message=text))


def _look_up(service: str, code: str, status: int) -> tuple[type[AwsError] | None, ErrorClass]:
    """The reaction and the class; no reaction means that our own identity was refused."""
    if service == "sts" and code in codes.OUR_IDENTITY:
        return None, ErrorClass.CREDENTIALS
    if code in codes.EXPIRED:
        return CredentialsExpired, ErrorClass.CREDENTIALS
    if error_class := codes.PASSING_BY_SERVICE.get((service, code)):
        return PassingError, error_class
    if error_class := codes.FINAL_BY_SERVICE.get((service, code)) or codes.FINAL.get(code):
        return FinalError, error_class
    if error_class := codes.PASSING.get(code) or codes.BAD_STATUS.get(status):
        return PassingError, error_class
    return FinalError, ErrorClass.UNCLASSIFIED


def _told(code: str, message: str, service: str, operation: str) -> str:
    """AWS's message, unless it quotes the request, whose headers hold a session token."""
    if "Signature" in code or not message:
        return f"{service}:{operation} was refused with {code}"
    return message[:1000]


def _asked_for(headers: Mapping[str, str]) -> timedelta | None:
    wish = headers.get("retry-after", "")
    return timedelta(seconds=min(int(wish), 900)) if wish.isdigit() else None
