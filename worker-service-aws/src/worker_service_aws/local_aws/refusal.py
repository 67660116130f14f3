"""The errors that the gate answers with, in AWS's own words and form."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4
from xml.sax.saxutils import escape

_NAMESPACES = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP answer, held until it is known whether it may be sent."""

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.status.split()[0])


class Refusal(Exception):
    """AWS says no; the gate turns it into an answer."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    def answer(self, service: str) -> Answer:
        """The XML error document that the query protocol sends."""
        request_id = str(uuid4())
        kind = "Sender" if self.status < 500 else "Receiver"
        body = (
            f'<ErrorResponse xmlns="{_NAMESPACES.get(service, _NAMESPACES["iam"])}">'
            f"<Error><Type>{kind}</Type><Code>{escape(self.code)}</Code>"
            f"<Message>{escape(self.message)}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return Answer(
            status=f"{self.status} {kind}",
            headers=(("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)),
            body=body.encode(),
        )


def access_denied(message: str) -> Refusal:
    """The refusal of a permission."""
    return Refusal("AccessDenied", message, status=403)


def invalid(message: str) -> Refusal:
    """The refusal of a parameter that does not satisfy its constraint."""
    return Refusal("ValidationError", f"1 validation error detected: {message}")
