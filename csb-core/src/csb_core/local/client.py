"""A client of HTTP that speaks JSON, for the demonstration: the platform's API, or a control."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from csb_core.errors import BridgeError


class Unanswered(BridgeError):
    """No answer came, or another than was asked for; the text has what did."""

    code = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Speaks with one address; every call is a connection of its own."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Any:
        """Read something. Raises Unanswered."""
        return self._call("GET", path, None)

    def post(self, path: str, document: Any) -> Any:
        """Send something. Raises Unanswered."""
        return self._call("POST", path, document)

    def put(self, path: str, document: Any) -> Any:
        """Replace something. Raises Unanswered."""
        return self._call("PUT", path, document)

    def delete(self, path: str) -> Any:
        """Remove something. Raises Unanswered."""
        return self._call("DELETE", path, None)

    def refused(self, path: str, document: Any) -> Any:
        """Send what must be refused; return the answer that says why. Raises Unanswered."""
        status, text = self._exchange("POST", path, document)
        if not 400 <= status < 500:
            raise Unanswered(f"POST {self.url}{path}: {status} {text}")
        return json.loads(text)

    def _call(self, method: str, path: str, document: Any) -> Any:
        status, text = self._exchange(method, path, document)
        if not 200 <= status < 300:
            raise Unanswered(f"{method} {self.url}{path}: {status} {text}")
        return json.loads(text)

    def _exchange(self, method: str, path: str, document: Any) -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=40)
        body = None if document is None else json.dumps(document)
        headers = {**self.headers, "Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as exc:
            raise Unanswered(f"{method} {self.url}{path}: {exc}") from exc
        finally:
            connection.close()
