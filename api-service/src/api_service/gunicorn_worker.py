"""gunicorn's worker of the API: what it refuses before the app is asked, it tells as the app does.

The master loads this module, so it imports nothing that gevent has to patch first.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import orjson
from gunicorn import util
from gunicorn.workers.ggevent import GeventWorker

from api_service.statuses import GUARDS, PROBLEM_TYPE, problem_of_status
from csb_core import log
from csb_core.ids import new_id

if TYPE_CHECKING:
    from gunicorn._types import _AddressType
    from gunicorn.http import Request

_DETAILS: Final = {
    414: "A request line may have 4,094 bytes.",
    431: "There may be 100 headers, each of 8,190 bytes.",
    500: "It is logged under this request_id.",
}
_OTHERWISE: Final = "Look at the request line, the headers, and how the length of the body is told."


class ApiWorker(GeventWorker):
    """Leaves the judgement and its line in the log to gunicorn, and words it as a problem."""

    def handle_request(
        self, listener_name: _AddressType, req: Request, sock: socket.socket, addr: _AddressType
    ) -> bool:
        """Serve a call; one whose body failed is the connection's last, and its answer says so."""
        should_close = req.should_close
        # A method of the class must not be assigned to, so by its dict.
        vars(req)["should_close"] = lambda: should_close() or _has_failed(req)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        except StopIteration:
            if _has_failed(req):  # what still comes must not reset the answer away
                util.close_graceful(sock)
            raise

    def handle_error(
        self, req: Request | None, client: socket.socket, addr: _AddressType, exc: BaseException
    ) -> None:
        """Answer what could not be read, or what the app has not caught."""
        request_id = str(new_id())
        log.start(request_id=request_id)
        judged = self._judged(req, addr, exc)
        if judged:
            with suppress(OSError):  # the caller may be gone
                util.write_nonblock(client, _answer(judged, request_id))

    def _judged(self, req: Request | None, addr: _AddressType, exc: BaseException) -> bytes:
        """Return the status line that gunicorn would send."""
        ours, its = socket.socketpair()
        with ours:
            with its:
                super().handle_error(req, its, addr, exc)
            return ours.recv(1024).partition(b"\r\n")[0]


def _has_failed(req: Request) -> bool:
    """Whether reading the body came to nothing, so that nobody knows where the next call begins."""
    return bool(getattr(req.body, "failed", False))


def _answer(status_line: bytes, request_id: str) -> bytes:
    status = int(status_line.split()[1])
    detail = _DETAILS.get(status, _OTHERWISE)
    body = orjson.dumps(problem_of_status(status, detail, request_id))
    headers = {
        "Connection": "close",
        "Content-Type": PROBLEM_TYPE,
        "Content-Length": len(body),
        "X-Request-ID": request_id,
        **dict(GUARDS),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return b"%b\r\n%b\r\n%b" % (status_line, lines.encode(), body)
