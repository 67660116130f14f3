"""The names of an exchange: X-Request-ID and W3C traceparent, taken when valid, else made."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from csb_core import log
from csb_core.ids import new_id

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?"
)
_KEPT: Final = "csb.trace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What an exchange is called, here and in everything that follows from it."""

    request_id: str
    traceparent: str


def trace_of(environ: dict[str, Any]) -> Trace:
    """Return the exchange's names; the same ones however often it is asked."""
    trace = environ.get(_KEPT)
    if isinstance(trace, Trace):
        return trace
    trace = Trace(request_id=_request_id(environ), traceparent=_traceparent(environ))
    environ[_KEPT] = trace
    log.start(request_id=trace.request_id, trace_id=trace.traceparent[3:35])
    return trace


def _request_id(environ: Mapping[str, Any]) -> str:
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    return given if _REQUEST_ID.fullmatch(given) else str(new_id())


def _traceparent(environ: Mapping[str, Any]) -> str:
    """Continue the caller's trace with a span of our own, or begin one."""
    given = _TRACEPARENT.fullmatch(environ.get("HTTP_TRACEPARENT", ""))
    trace_id, flags = (given[1], given[2]) if given else (secrets.token_hex(16), "01")
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"
