"""The gate before moto: who calls, may they, what goes wrong today, and a line in the journal."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from worker_service_aws.local_aws import simulation
from worker_service_aws.local_aws.attachments import attachment_of
from worker_service_aws.local_aws.call import Call, Environ, read_call
from worker_service_aws.local_aws.callers import Caller, Keyring
from worker_service_aws.local_aws.control import control
from worker_service_aws.local_aws.faults import Fault, Faults, Kind
from worker_service_aws.local_aws.journal import Entry, Journal, now
from worker_service_aws.local_aws.permission import require_permission
from worker_service_aws.local_aws.refusal import Answer, Refusal
from worker_service_aws.local_aws.trust import duration_of, require_trust, session_policy_of

StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_REQUEST_ID = re.compile(rb"(?<=<RequestId>)[^<]*(?=</RequestId>)")
_CODE = re.compile(rb"<Code>([^<]+)</Code>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a call."""

    answer: Answer
    performed: bool = False
    effect: bool = False


class Gate:
    """A WSGI application; moto is reached only by calls that AWS would have performed.

    `services` are moto's applications for the services that are called most: its own dispatcher,
    `moto`, which knows all of them, looks through its folders at every call.
    """

    def __init__(self, moto: WsgiApp, services: Mapping[str, WsgiApp]) -> None:
        self.faults = Faults()
        self.journal = Journal()
        self._moto = moto
        self._services = services
        self._keyring = Keyring()
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/_csb/"):
            return _send(control(environ, self.faults, self.journal), start_response)
        call = read_call(environ)
        if call is None:
            return self._moto(environ, start_response)

        try:
            caller = self._keyring.find(call)
        except Refusal as refusal:
            return _send(refusal.answer(call.service), start_response)

        fault = self.faults.take(call, _account_of(caller, call))
        result = self._under(fault, caller, call, environ)
        self._note(caller, call, fault, result)

        if fault is not None and fault.kind in (Kind.LOST_ANSWER, Kind.LOST_CALL):
            _hang_up(environ)
        return _send(result.answer, start_response)

    def _under(self, fault: Fault | None, caller: Caller, call: Call, environ: Environ) -> Result:
        """Carry the call out as the fault, if there is one, allows."""
        if fault is not None and fault.kind is Kind.LATENCY:
            time.sleep(fault.seconds)
        if fault is not None and fault.kind in (Kind.THROTTLE, Kind.ERROR):
            return Result(answer=fault.refusal().answer(call.service))
        if fault is not None and fault.kind is Kind.LOST_CALL:
            return Result(answer=Answer(status="000 Lost", headers=(), body=b""))

        with self._one_at_a_time:  # moto's state is made of plain dicts
            try:
                return self._perform(caller, call, environ)
            except Refusal as refusal:
                return Result(answer=refusal.answer(call.service))

    def _perform(self, caller: Caller, call: Call, environ: Environ) -> Result:
        """Check, let moto do it, and keep what moto would forget; raise Refusal."""
        if call.action == "sts:AssumeRole":
            require_trust(caller, call)
        else:
            require_permission(caller, call)
        if call.action == simulation.ACTION:
            return Result(answer=simulation.simulate(call), performed=True)
        attachment = attachment_of(caller.account_id, call)
        if attachment is not None:
            attachment.require_possible()

        before = attachment.attached() if attachment else None
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = caller.account_id
        answer = _capture(self._services.get(call.service, self._moto), environ)
        effect = attachment is not None and attachment.attached() != before

        if call.action == "sts:AssumeRole" and answer.code == 200:
            self._remember(call, answer)
        return Result(answer=answer, performed=True, effect=effect)

    def _remember(self, call: Call, answer: Answer) -> None:
        """Keep the session policy beside the credentials that moto has issued."""
        role_arn = call.parameters["RoleArn"]
        caller = Caller(
            account_id=role_arn.split(":")[4],
            kind="role",
            name=role_arn.rpartition("/")[2],
            session_name=call.parameters["RoleSessionName"],
            session_policy=session_policy_of(call),
            session_token=_element(answer, "SessionToken"),
            expires_at=datetime.now(UTC) + timedelta(seconds=duration_of(call)),
        )
        self._keyring.issue(_element(answer, "AccessKeyId"), caller)

    def _note(self, caller: Caller, call: Call, fault: Fault | None, result: Result) -> None:
        code = _CODE.search(result.answer.body)
        self.journal.append(
            Entry(
                at=now(),
                operation=call.operation,
                account=_account_of(caller, call),
                subject=call.subject,
                policy_arn=call.parameters.get("PolicyArn"),
                session=caller.session_name or call.parameters.get("RoleSessionName"),
                status=result.answer.code,
                code=code.group(1).decode() if code else None,
                fault=fault.kind if fault else None,
                performed=result.performed,
                effect=result.effect,
            )
        )


def _account_of(caller: Caller, call: Call) -> str:
    """The account that the call is about: for AssumeRole the one that is to be entered."""
    if call.action == "sts:AssumeRole":
        return (call.parameters.get("RoleArn", "") + ":::::").split(":")[4]
    return caller.account_id


def _capture(app: WsgiApp, environ: Environ) -> Answer:
    head: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        head.extend((status, headers))

    chunks = app(environ, start_response)
    body = b"".join(chunks)
    return _with_request_id(Answer(status=head[0], headers=tuple(head[1]), body=body))


def _with_request_id(answer: Answer) -> Answer:
    """Give the answer an id as AWS has them; moto's look like secrets, which no log shows."""
    request_id = str(uuid4())
    others = [pair for pair in answer.headers if pair[0].lower() != "x-amzn-requestid"]
    return replace(
        answer,
        headers=(*others, ("x-amzn-RequestId", request_id)),
        body=_REQUEST_ID.sub(request_id.encode(), answer.body),
    )


def _send(answer: Answer, start_response: StartResponse) -> Iterable[bytes]:
    others = [pair for pair in answer.headers if pair[0].lower() != "content-length"]
    start_response(answer.status, [*others, ("Content-Length", str(len(answer.body)))])
    return [answer.body]


def _hang_up(environ: Environ) -> None:
    """Close the connection under the caller; the server drops what is left."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def _element(answer: Answer, name: str) -> str:
    found = re.search(rb"<%b>([^<]+)</%b>" % (name.encode(), name.encode()), answer.body)
    assert found is not None, f"moto answered AssumeRole without {name}"
    return found.group(1).decode()
