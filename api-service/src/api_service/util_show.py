"""GET of utils: one, a page of them, their versions, how two differ, and their executions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from flask import Response

from api_service.call import Call
from api_service.cursors import edge_of, edge_text, id_of_cursor, id_text
from api_service.deps import Deps
from api_service.documents import answer, page
from api_service.errors import BadRequest
from api_service.incoming import choice, id_of, is_known, query, whole
from api_service.util_differences import differences
from api_service.util_documents import (
    etag_of,
    util_document,
    util_summary,
    version_document,
    version_list,
)
from csb_core import util_executions, util_search, util_store, util_versions
from csb_core.db import tenant_transaction
from csb_core.errors import NotFound
from csb_core.util_search import Filters

FILTERS: Final = ("status", "kind", "category", "tag", "q", "shared")
ACTIONS: Final = ("run_util", "test_util")
DEFAULT_SIZE: Final = 50
LARGEST_SIZE: Final = 200
LARGEST_PAGE: Final = 10_000

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "status": ("active", "inactive"),
    "kind": ("transformer", "script"),
    "shared": ("true", "false"),
}
_LISTED: Final = frozenset({*FILTERS, "page", "page_size", "cursor"})
_PAGED: Final = frozenset({"limit", "cursor"})
_NONE: Final[frozenset[str]] = frozenset()


def show_util(deps: Deps, call: Call, util_id: str) -> Response:
    """Answer with a util and its latest version."""
    query(_NONE)
    caller = call.caller
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        util = util_store.seen(conn, id_of(util_id, "util"))
        version = util_versions.get(conn, util.util_id, util.version)
    etag = etag_of(util)
    if is_known(etag):
        return Response(status=304, headers={"ETag": etag})
    return answer(util_document(util, version), ETag=etag)


def list_utils(deps: Deps, call: Call) -> Response:
    """Answer with one page of what the caller may read: by its number, or after a cursor."""
    asked = query(_LISTED)
    size = whole(asked, "page_size", default=DEFAULT_SIZE, most=LARGEST_SIZE)
    number = whole(asked, "page", default=1, most=LARGEST_PAGE)
    after = edge_of(asked["cursor"]) if "cursor" in asked else None
    if after is not None and "page" in asked:
        raise BadRequest("give page or cursor, not both")
    caller, filters = call.caller, _filters(asked)
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        total = util_search.count(conn, filters)
        found = util_search.list_page(
            conn,
            filters,
            limit=size + 1,
            offset=0 if after else (number - 1) * size,
            after=after,
        )
    more, found = len(found) > size, found[:size]
    return answer(
        {
            "items": [util_summary(util) for util in found],
            "page": None if after else number,
            "page_size": size,
            "total": total,
            "next_cursor": edge_text(found[-1]) if more else None,
        }
    )


def list_versions(deps: Deps, call: Call, util_id: str) -> Response:
    """Answer with one page of a util's versions, newest first."""
    asked = query(_PAGED)
    limit = whole(asked, "limit", default=DEFAULT_SIZE, most=LARGEST_SIZE)
    before = whole(asked, "cursor", default=0, most=2**31 - 1) or None
    wanted, caller = id_of(util_id, "util"), call.caller
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        lines = util_versions.list_of(conn, wanted, before=before, limit=limit + 1)
    more, lines = len(lines) > limit, lines[:limit]
    return answer(version_list(wanted, lines, str(lines[-1].version) if more else None))


def show_version(deps: Deps, call: Call, util_id: str, number: str) -> Response:
    """Answer with one version, whole."""
    query(_NONE)
    wanted, caller = id_of(util_id, "util"), call.caller
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        util = util_store.seen(conn, wanted)
        version = util_versions.get(conn, wanted, _number(number))
    return answer(version_document(version, util.kind))


def diff_versions(deps: Deps, call: Call, util_id: str) -> Response:
    """Answer with how two versions differ; left out, `to` is the latest and `from` its elder."""
    asked = query(frozenset({"from", "to"}))
    wanted, caller = id_of(util_id, "util"), call.caller
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        util = util_store.seen(conn, wanted)
        to = whole(asked, "to", default=util.version, most=2**31 - 1)
        since = whole(asked, "from", default=max(1, to - 1), most=2**31 - 1)
        new = util_versions.get(conn, wanted, to)  # first: what was named is what is missing
        old = util_versions.get(conn, wanted, since)
    return answer(differences(old, new))


def list_executions(deps: Deps, call: Call, util_id: str) -> Response:
    """Answer with one page of the tenant's requests that ran a util, or tested it, newest first."""
    asked = query(frozenset({"action", *_PAGED}))
    action = choice(asked, "action", ACTIONS) or ACTIONS[0]
    limit = whole(asked, "limit", default=DEFAULT_SIZE, most=LARGEST_SIZE)
    before: UUID | None = id_of_cursor(asked.get("cursor"))
    wanted, caller = id_of(util_id, "util"), call.caller
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        util_store.seen(conn, wanted)
        found = util_executions.list_of(conn, wanted, action=action, before=before, limit=limit)
    later = found.go_on_before
    return answer(page(found.requests, id_text(later) if later else None))


def _filters(asked: Mapping[str, str]) -> Filters:
    for name, choices in _CHOICES.items():
        choice(asked, name, choices)
    chosen: dict[str, Any] = {
        name: asked[name] for name in FILTERS if name in asked and name != "shared"
    }
    shared = asked["shared"] == "true" if "shared" in asked else None
    return Filters(**chosen, shared=shared)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise NotFound("a version has a number, and this is none")
    return int(text)
