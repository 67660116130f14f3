"""Tells the two listeners apart: the public one serves the API, the other one the metrics only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from csb_core.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: When the call came in, in the environment of the call.
BEGAN: Final = "csb.began"


class Listeners:
    """A WSGI application in front of the API's."""

    def __init__(
        self, api: WSGIApplication, render: Callable[[], bytes], *, metrics_bind: str
    ) -> None:
        self._api = api
        self._render = render
        self._metrics_port = metrics_bind.rpartition(":")[2]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve by the port at which the call came in."""
        environ[BEGAN] = time.perf_counter()
        if environ.get("SERVER_PORT") != self._metrics_port:
            return self._api(environ, start_response)
        if environ.get("PATH_INFO") != "/metrics" or environ.get("REQUEST_METHOD") != "GET":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"GET /metrics is all there is here\n"]
        text = self._render()
        start_response(
            "200 OK", [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(text)))]
        )
        return [text]
