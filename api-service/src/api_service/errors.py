"""Every error as RFC 9457 problem+json; the one place that knows HTTP's numbers for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from uuid import UUID

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api_service.auth import Forbidden, Unauthenticated
from api_service.limits import TooManyRequests
from api_service.statuses import PROBLEM_TYPE, problem, problem_of_status
from api_service.tracing import trace_of
from csb_core import metrics
from csb_core.errors import (
    AccountNotRegistered,
    BridgeError,
    Conflict,
    NotFound,
    NotPermitted,
    RevisionMismatch,
    StoreRejected,
    StoreUnavailable,
)
from csb_core.faults import Fault, Invalid, Malformed, TooDeep
from csb_core.lint import LintUnavailable
from csb_core.models import Json
from csb_core.states import Status

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 2


class BadRequest(BridgeError):
    """A header or a query parameter is not what it must be."""

    code: ClassVar[str] = "bad_request"


class UnsupportedMediaType(BridgeError):
    """A body came that is not declared to be JSON."""

    code: ClassVar[str] = "unsupported_media_type"


class KeysDiffer(BadRequest):
    """The Idempotency-Key header and the field client_request_id name different keys."""

    code: ClassVar[str] = "idempotency_keys_differ"


class KeyReused(Conflict):
    """The client_request_id brought another body before."""

    code: ClassVar[str] = "client_request_id_reused"


class UtilNotActive(Conflict):
    """The util, or this version of it, may not run as things are."""

    code: ClassVar[str] = "util_not_active"


class CasesFailed(Conflict):
    """A version has test cases that have not passed in the sandbox."""

    code: ClassVar[str] = "tests_not_passed"


class CodeRefused(Invalid):
    """The validator found errors in a util's code."""

    code = "code_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFault(Fault):
    """A fault of a util's code: the rule that it breaks, and where."""

    rule: str
    line: int
    col: int
    severity: str


class AlreadyReplayed(Conflict):
    """The request has a replay, which is not CANCELLED: there is one at a time."""

    code: ClassVar[str] = "already_replayed"

    def __init__(self, correlation_id: UUID, status: Status) -> None:
        what = "has FAILED: replay that one" if status is Status.FAILED else f"is {status}"
        super().__init__(f"it was replayed as {correlation_id}, which {what}")
        self.correlation_id = str(correlation_id)


class OutcomeUnknown(StoreUnavailable):
    """PostgreSQL went away while it wrote; whether it has written could not be found out."""

    code: ClassVar[str] = "outcome_unknown"

    def __init__(self, correlation_id: str) -> None:
        super().__init__("whether this was done is not known")
        self.correlation_id = correlation_id


class ChangeUnknown(StoreUnavailable):
    """PostgreSQL went away while it committed a change of a util, a share or a rule."""

    code: ClassVar[str] = "change_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one type of error is told; a `detail` here replaces the error's own words."""

    status: int
    title: str
    detail: str | None = None


#: The nearest base in this table decides.
PROBLEMS: Final[dict[type[BridgeError], Kind]] = {
    Malformed: Kind(status=400, title="The body is not JSON"),
    TooDeep: Kind(status=400, title="The body nests too deep"),
    BadRequest: Kind(status=400, title="A header or parameter is wrong"),
    Unauthenticated: Kind(status=401, title="No valid key"),
    Forbidden: Kind(status=403, title="The key lacks a scope"),
    AccountNotRegistered: Kind(status=403, title="The account is not registered"),
    NotFound: Kind(status=404, title="There is no such thing"),
    Conflict: Kind(status=409, title="The state does not allow it"),
    NotPermitted: Kind(status=403, title="This is not yours to do"),
    RevisionMismatch: Kind(status=412, title="It has changed since you read it"),
    UnsupportedMediaType: Kind(status=415, title="Send application/json"),
    Invalid: Kind(
        status=422,
        title="The body is not what the contract asks for",
        detail="`errors` names every fault; GET /api/v1/schema tells what is asked for.",
    ),
    CodeRefused: Kind(
        status=422,
        title="The validator refuses this code",
        detail="`errors` names every finding with its place; mend those of severity error.",
    ),
    LintUnavailable: Kind(
        status=503,
        title="The validator is busy",
        detail="Nothing was stored; try again after the time in Retry-After.",
    ),
    TooManyRequests: Kind(status=429, title="Too many requests"),
    StoreRejected: Kind(
        status=500, title="Something went wrong here", detail="It is logged under this request_id."
    ),
    OutcomeUnknown: Kind(
        status=503,
        title="It is not known whether this was done",
        detail="Look for correlation_id soon, or repeat it under the same client_request_id.",
    ),
    ChangeUnknown: Kind(
        status=503,
        title="It is not known whether this was done",
        detail="Read it again, after the time in Retry-After, before you repeat it.",
    ),
    StoreUnavailable: Kind(
        status=503,
        title="The database does not answer",
        detail="Nothing was stored; try again after the time in Retry-After.",
    ),
    BridgeError: Kind(
        status=500, title="Something went wrong here", detail="It is logged under this request_id."
    ),
}


def register(app: Flask) -> None:
    """Make the app tell every error as a problem."""
    app.register_error_handler(BridgeError, _tell)
    app.register_error_handler(HTTPException, _tell_http)
    app.register_error_handler(Exception, _tell_crash)


def problem_of(error: BridgeError) -> Json:
    """Return the problem document of an error."""
    kind = next(PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS)
    detail = kind.detail or f"{str(error).rstrip('.')}."
    document = problem(error.code, kind.status, kind.title, detail, _request_id())
    if isinstance(error, Invalid):
        document["errors"] = [_fault(fault) for fault in error.faults]
    if isinstance(error, (ChangeUnknown, OutcomeUnknown)):
        document["outcome"] = "unknown"
    if isinstance(error, (AlreadyReplayed, OutcomeUnknown)):
        document["correlation_id"] = error.correlation_id
    return document


def _request_id() -> str:
    return trace_of(request.environ).request_id


def _fault(fault: Fault) -> Json:
    told: Json = {"pointer": fault.pointer, "message": fault.message}
    if fault.hint:
        told["hint"] = fault.hint
    if isinstance(fault, CodeFault):
        told["rule"], told["severity"] = fault.rule, fault.severity
        told["line"], told["col"] = fault.line, fault.col
    return told


def _tell(error: BridgeError) -> Response:
    document = problem_of(error)
    status: int = document["status"]
    if status >= 500:
        log.error("http.request_failed", extra={"code": error.code}, exc_info=error)
    metrics.REFUSED.labels(document["code"]).inc()
    headers: dict[str, str] = {}
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.standing.reset_seconds)
        headers.update(error.standing.headers())
    elif status == 503:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    elif status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="csecbridge"'
    return _response(document, headers)


def _tell_http(error: HTTPException) -> Response:
    status = error.code or 500
    headers: dict[str, str] = {}
    detail = "See GET /api/v1/openapi.json for what can be asked, and how."
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
        detail = f"Allowed here: {headers['Allow']}."
    elif status == 413 and request.max_content_length:
        detail = (
            f"At most {request.max_content_length - 1:,} bytes are taken here; send less at once."
        )
    return _response(problem_of_status(status, detail, _request_id()), headers)


def _tell_crash(error: Exception) -> Response:
    log.critical("http.request_crashed", exc_info=error)
    document = problem_of_status(500, "It is logged under this request_id.", _request_id())
    return _response(document, {})


def _response(document: Json, headers: dict[str, Any]) -> Response:
    return Response(
        orjson.dumps(document), status=document["status"], headers=headers, mimetype=PROBLEM_TYPE
    )
