"""GET /api/v1/requests/{id}, its trail and its references."""

from __future__ import annotations

from typing import Final

from flask import Response, request

from api_service.call import Call
from api_service.deps import Deps
from api_service.documents import answer, rows
from api_service.incoming import id_of, is_known, query
from api_service.polling import wait_for, wait_seconds
from api_service.reading import Shown
from csb_core import requests
from csb_core.db import tenant_transaction
from csb_core.errors import NotFound

_NONE: Final[frozenset[str]] = frozenset()
_AUDIT: Final = (
    "at", "event", "from_status", "to_status", "version", "attempt", "actor", "changed", "detail",
)  # fmt: skip
_REFS: Final = ("at", "attempt", "type", "value", "service", "operation")


def show(deps: Deps, call: Call, correlation_id: str) -> Response:
    """Answer with the request; with ?wait=, when it has ended, or changed from If-None-Match."""
    seconds = wait_seconds(query(frozenset({"wait"})).get("wait"))
    wanted = id_of(correlation_id)
    if seconds:
        shown = wait_for(deps, call.caller.tenant_id, wanted, seconds, is_awaited=_is_awaited)
    else:
        shown = deps.reader.read(call.caller.tenant_id, wanted)
    etag = f'"{shown.version}"'
    if is_known(etag):
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


def _is_awaited(shown: Shown) -> bool:
    if request.if_none_match:
        return not is_known(f'"{shown.version}"')
    return shown.is_final
