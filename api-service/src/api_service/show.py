"""GET /api/v1/requests/{id}, its trail and its references."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Final

from flask import Response, request

from api_service.call import Call
from api_service.deps import Deps
from api_service.documents import answer, rows
from api_service.errors import BadRequest
from api_service.incoming import id_of, query
from api_service.reading import Shown
from csb_core import requests
from csb_core.db import tenant_transaction
from csb_core.errors import NotFound

LONGEST_WAIT: Final = 30.0

_NONE: Final[frozenset[str]] = frozenset()
_AUDIT: Final = (
    "at", "event", "from_status", "to_status", "version", "attempt", "actor", "changed", "detail",
)  # fmt: skip
_REFS: Final = ("at", "attempt", "type", "value", "service", "operation")


def show(deps: Deps, call: Call, correlation_id: str) -> Response:
    """Answer with the request; with ?wait=, when it has ended, or changed from If-None-Match."""
    seconds = _wait_seconds(query(frozenset({"wait"})).get("wait"))
    if seconds:
        shown = _wait(deps, call, correlation_id, seconds)
    else:
        shown = deps.reader.read(call.caller.tenant_id, id_of(correlation_id))
    etag = f'"{shown.version}"'
    if _is_known(etag):
        return Response(status=304, headers={"ETag": etag, "X-Cache": shown.source})
    return answer(shown.document, ETag=etag, X_Cache=shown.source)


def show_audit(deps: Deps, call: Call, correlation_id: str) -> Response:
    """Answer with the whole trail of a request, oldest first."""
    query(_NONE)
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        trail = requests.audit(conn, id_of(correlation_id))
    if not trail:
        raise NotFound("your tenant has no request with this id")
    return answer(rows(trail, _AUDIT))


def show_refs(deps: Deps, call: Call, correlation_id: str) -> Response:
    """Answer with what others called our calls, oldest first."""
    query(_NONE)
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        found = requests.refs(conn, id_of(correlation_id))
    if found is None:
        raise NotFound("your tenant has no request with this id")
    return answer(rows(found, _REFS))


def _wait(deps: Deps, call: Call, correlation_id: str, seconds: float) -> Shown:
    """Read, sleep until the request moves, read again; holds no connection while it sleeps."""
    tenant_id, wanted = call.caller.tenant_id, id_of(correlation_id)
    deadline = time.monotonic() + seconds
    deps.reader.read(tenant_id, wanted)  # nobody waits for what is not there
    with deps.waiting.place(wanted) as place:
        shown = deps.reader.read(tenant_id, wanted)
        while place is not None and not _is_awaited(shown):
            left = deadline - time.monotonic()
            if left <= 0 or deps.waiting.is_over:
                break
            place.pause(timedelta(seconds=left))
            shown = deps.reader.read(tenant_id, wanted)
    return shown


def _is_awaited(shown: Shown) -> bool:
    if request.if_none_match:
        return not _is_known(f'"{shown.version}"')
    return shown.is_final


def _is_known(etag: str) -> bool:
    return "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains(
        etag.strip('"')
    )


def _wait_seconds(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_WAIT:
        raise BadRequest(f"wait must be a number of seconds from 0 to {LONGEST_WAIT:g}")
    return seconds
