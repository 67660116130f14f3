"""GET /api/v1/requests: a tenant's requests, newest first, a page at a time."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from flask import Response

from api_service.call import Call
from api_service.deps import Deps
from api_service.documents import answer, page
from api_service.errors import BadRequest
from api_service.incoming import query
from csb_core import requests
from csb_core.db import tenant_transaction
from csb_core.requests import Filters
from csb_core.states import Status

FILTERS: Final = (
    "status", "cloud_provider", "action", "account_id", "principal_type", "principal_name",
    "client_request_id", "created_from", "created_to",
)  # fmt: skip
DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 200

_PARAMETERS: Final = frozenset({*FILTERS, "limit", "cursor"})


def search(deps: Deps, call: Call) -> Response:
    """Answer with one page; the cursor of the next is the id of this one's last request."""
    asked = query(_PARAMETERS)
    limit = _limit(asked.get("limit"))
    before = _cursor(asked.get("cursor"))
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        found = requests.search(conn, _filters(asked), before=before, limit=limit + 1)
    more = len(found) > limit
    found = found[:limit]
    return answer(page(found, _cursor_of(found[-1].correlation_id) if more else None))


def _filters(asked: Mapping[str, str]) -> Filters:
    status = asked.get("status")
    if status is not None and status not in set(Status):
        raise BadRequest(f"status must be one of {', '.join(Status)}")
    return Filters(
        status=Status(status) if status else None,
        cloud_provider=asked.get("cloud_provider"),
        action=asked.get("action"),
        account_id=asked.get("account_id"),
        principal_type=asked.get("principal_type"),
        principal_name=asked.get("principal_name"),
        client_request_id=asked.get("client_request_id"),
        created_from=_moment("created_from", asked),
        created_to=_moment("created_to", asked),
    )


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


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (
        text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= LARGEST_LIMIT
    ):
        raise BadRequest(f"limit must be a whole number from 1 to {LARGEST_LIMIT}")
    return int(text)


def _cursor_of(correlation_id: UUID) -> str:
    return base64.urlsafe_b64encode(correlation_id.bytes).decode().rstrip("=")


def _cursor(text: str | None) -> UUID | None:
    """Return where the page begins; a cursor names a place in the caller's own list, no right."""
    if text is None:
        return None
    try:
        return UUID(bytes=base64.b64decode(f"{text}==".encode(), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error) as exc:
        raise BadRequest("cursor must be the next_cursor of a page") from exc
