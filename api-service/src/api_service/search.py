"""GET /api/v1/requests: a tenant's requests, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from flask import Response

from api_service.call import Call
from api_service.cursors import id_of_cursor, id_text
from api_service.deps import Deps
from api_service.documents import answer, page
from api_service.errors import BadRequest
from api_service.incoming import choice, query, uuid_of, whole
from api_service.narrowing import narrowed
from csb_core import request_search
from csb_core.contract import Contract
from csb_core.db import tenant_transaction
from csb_core.request_search import Filters
from csb_core.states import Status

FILTERS: Final = (
    "status", "cloud_provider", "action", "account_id", "principal_type", "principal_name",
    "client_request_id", "util_id", "created_from", "created_to",
)  # fmt: skip
DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 200

_PARAMETERS: Final = frozenset({*FILTERS, "limit", "cursor"})


def search(deps: Deps, call: Call) -> Response:
    """Answer with one page; the cursor of the next is the id of the last request looked at."""
    asked = query(_PARAMETERS)
    limit = whole(asked, "limit", default=DEFAULT_LIMIT, most=LARGEST_LIMIT)
    before = id_of_cursor(asked.get("cursor"))
    filters = _filters(deps.contract, asked)
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        found = request_search.search(conn, filters, before=before, limit=limit)
    later = found.go_on_before
    return answer(page(found.requests, id_text(later) if later else None))


def _filters(contract: Contract, asked: Mapping[str, str]) -> Filters:
    status = choice(asked, "status", tuple(map(str, Status)))
    return Filters(
        status=Status(status) if status else None,
        **narrowed(contract, asked),
        principal_name=asked.get("principal_name"),
        client_request_id=asked.get("client_request_id"),
        util_id=_util_id(asked.get("util_id")),
        created_from=_moment("created_from", asked),
        created_to=_moment("created_to", asked),
    )


def _util_id(text: str | None) -> UUID | None:
    if text is None:
        return None
    found = uuid_of(text)
    if found is None:
        raise BadRequest("util_id must be the id of a util")
    return found


def _moment(name: str, asked: Mapping[str, str]) -> datetime | None:
    text = asked.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadRequest(f"{name} must be a time with its offset, like 2026-11-22T12:00:00Z")
    return moment
