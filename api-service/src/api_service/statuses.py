"""How a refusal is told that has no error of ours: by its HTTP status. Imports nothing of the app.

gunicorn's worker tells some before there is an app to ask.
"""

from __future__ import annotations

from typing import Final

from csb_core.models import Json

PROBLEM_TYPE: Final = "application/problem+json"

#: What goes with every answer.
GUARDS: Final = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))

_OF_STATUS: Final = {
    400: ("bad_request", "The request is not HTTP as we read it"),
    404: ("not_found", "There is no such thing"),
    405: ("method_not_allowed", "The method is not allowed here"),
    408: ("request_timeout", "The body did not come in time"),
    413: ("body_too_large", "The body is too large"),
    414: ("uri_too_long", "The URI is too long"),
    431: ("headers_too_large", "The headers are too large"),
    500: ("internal_error", "Something went wrong here"),
}
_OTHERS: Final = ("http_error", "The request was not served")


def problem_of_status(status: int, detail: str, request_id: str) -> Json:
    """Return the problem document of a status."""
    code, title = _OF_STATUS.get(status, _OTHERS)
    return problem(code, status, title, detail, request_id)


def problem(code: str, status: int, title: str, detail: str, request_id: str) -> Json:
    """Return a problem document with the fields that every one has."""
    return {
        "type": f"urn:csb:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
