"""One pool of HTTP connections for every client of the process.

A client per request is what isolates credentials; a pool per client would cost a TLS handshake
per request. botocore lets a handler of `before-send` do the sending, so ours does.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import (
    HTTPClientError,
    SSLError,
)
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from worker_service_aws.codes import repeatable
from worker_service_aws.faults import AnswerLost


class Transport:
    """Sends for all clients; a write whose answer is lost is never sent a second time."""

    def __init__(
        self,
        *,
        connect: float,
        read: float,
        read_by_service: Mapping[str, float],
        connections: int,
        ca_bundle: str | None,
    ) -> None:
        self._connect = connect
        self._read = read
        self._read_by_service = read_by_service
        self._connections = connections
        self._verify = ca_bundle or True
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str], URLLib3Session] = {}

    def send(self, **event: Any) -> Any:
        """Handle botocore's `before-send.<service>.<operation>` by giving the response.

        Raises AnswerLost, which botocore takes for no reason to retry, when a write broke off.
        """
        request: AWSPreparedRequest = event["request"]
        _, service, operation = event["event_name"].split(".")
        try:
            return self._pool(service, str(request.url)).send(request)
        except (HTTPClientError, SSLError) as exc:
            if repeatable(operation):
                raise
            raise AnswerLost(reason=type(exc).__name__) from exc

    def _pool(self, service: str, url: str) -> URLLib3Session:
        """The connections of a service to one origin; which proxy leads there depends on it."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if (service, origin) not in self._pools:
                self._pools[service, origin] = self._open(service, origin)
            return self._pools[service, origin]

    def _open(self, service: str, origin: str) -> URLLib3Session:
        options: dict[str, Any] = {
            "verify": self._verify,
            "proxies": get_environ_proxies(origin),
            "timeout": (self._connect, self._read_by_service.get(service, self._read)),
            "max_pool_connections": self._connections,
        }
        return URLLib3Session(**options)
