"""A caller of the API who writes down every answer, and every time that none came."""

from __future__ import annotations

import http.client
import itertools
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from csb_core.local.ports import HOST

POLICIES: Final = tuple(
    f"arn:aws:iam::aws:policy/{name}"
    for name in (
        "ReadOnlyAccess",
        "SecurityAudit",
        "IAMReadOnlyAccess",
        "AmazonS3ReadOnlyAccess",
        "AmazonEC2ReadOnlyAccess",
        "AmazonSQSReadOnlyAccess",
        "AmazonSNSReadOnlyAccess",
        "CloudWatchReadOnlyAccess",
        "AWSLambda_ReadOnlyAccess",
    )
)
REQUESTS: Final = "/api/v1/requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; `status` is None when nothing did."""

    status: int | None
    headers: Mapping[str, str]
    document: Any
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One POST and its answer."""

    key: str
    body: Mapping[str, Any]
    answer: Answer

    @property
    def correlation_id(self) -> UUID:
        """The id that the API gave; only an accepted request has one."""
        return UUID(self.answer.document["correlation_id"])

    @property
    def is_accepted(self) -> bool:
        """Whether the API took it on."""
        return self.answer.status in (200, 202)


def new_pairs() -> Iterator[tuple[str, str]]:
    """Every pair of a user and a policy, once: what is attached there was asked for once."""
    users = (f"load-{number:05}" for number in itertools.count(1))
    return ((user, policy) for user in users for policy in POLICIES)


@dataclass(slots=True, kw_only=True)
class Client:
    """Speaks with the API; a connection for each call, and no call is repeated."""

    port: int
    token: str
    account: str
    pairs: Iterator[tuple[str, str]]
    asked: list[Asked] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attach(self) -> Asked:
        """Ask that a policy be attached that nobody else attaches there."""
        return self.ask(self.new_body())

    def new_body(self, user: str | None = None) -> dict[str, Any]:
        """The body of a POST, under a name of its own, about a pair of its own."""
        with self._lock:
            name, policy = next(self.pairs)
        user = user or name
        return {
            "cloud_provider": "aws",
            "action": "attach_policy",
            "account_id": self.account,
            "principal": {"type": "user", "name": user},
            "parameters": {"policy_arn": policy},
            "client_request_id": f"chaos-{secrets.token_hex(8)}",
        }

    def ask(self, body: Mapping[str, Any]) -> Asked:
        """POST this body and write the answer down."""
        answer = self.call("POST", REQUESTS, body)
        asked = Asked(key=body["client_request_id"], body=body, answer=answer)
        with self._lock:
            self.asked.append(asked)
        return asked

    def show(self, correlation_id: UUID | str, more: str = "") -> Answer:
        """GET a request, or what belongs to it."""
        return self.call("GET", f"{REQUESTS}/{correlation_id}{more}", None)

    def call(self, method: str, path: str, body: object) -> Answer:
        """Make one call."""
        began = time.monotonic()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=40)
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            document = json.loads(response.read())
            status, told = response.status, dict(response.headers)
        except (OSError, http.client.HTTPException):
            status, told, document = None, {}, None
        finally:
            connection.close()
        return Answer(
            status=status, headers=told, document=document, seconds=time.monotonic() - began
        )
