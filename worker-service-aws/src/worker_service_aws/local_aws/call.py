"""One AWS call as the gate sees it: who signed it, and what it asks for."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_TARGETS = ("UserName", "RoleName", "GroupName", "PolicyArn", "RoleArn")

Environ = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A signed call, read from its headers and its form."""

    service: str
    region: str
    operation: str
    access_key_id: str
    session_token: str | None
    parameters: Mapping[str, str] = field(repr=False)

    @property
    def action(self) -> str:
        """The name that policies know it by."""
        return f"{self.service}:{self.operation}"

    @property
    def subject(self) -> str | None:
        """The name of the thing that the call is about."""
        return next((self.parameters[key] for key in _TARGETS if key in self.parameters), None)


def read_call(environ: Environ) -> Call | None:
    """Read the call and rewind the body; None for a request that nobody signed."""
    scope = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    if scope is None:
        return None

    access_key_id, region, service = scope.groups()
    form = dict(parse_qsl(_body(environ), keep_blank_values=True))
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    return Call(
        service=service.lower(),
        region=region,
        operation=form.get("Action") or target.rpartition(".")[2] or "Unknown",
        access_key_id=access_key_id,
        session_token=environ.get("HTTP_X_AMZ_SECURITY_TOKEN"),
        parameters=form,
    )


def _body(environ: Environ) -> str:
    raw: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(raw)
    form = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
    return raw.decode() if form else str(environ.get("QUERY_STRING", ""))
