"""PUT and DELETE of a util, and its way back to an earlier version."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from flask import Response, request

from api_service.call import Call
from api_service.changing import changing
from api_service.deps import Deps
from api_service.documents import answer
from api_service.errors import BadRequest
from api_service.incoming import id_of, query, read_json
from api_service.util_bodies import Said, about_of, differs, require_sound, said_anew
from api_service.util_checking import house_of, require_valid, verdict
from api_service.util_documents import deleted_document, etag_of, util_document
from api_service.util_history import history_of
from csb_core import util_status, util_store, util_versions
from csb_core.db import Connection, tenant_transaction
from csb_core.errors import NotPermitted, RevisionMismatch
from csb_core.faults import Fault, Invalid
from csb_core.models import Json
from csb_core.util_models import About, Content, Util

#: Changes that come between are few: each takes a moment only.
_TRIES: Final = 5


def update_util(deps: Deps, call: Call, util_id: str) -> Response:
    """Change what was said, and nothing else; a change of what runs makes a new version.

    Without If-Match it is made on top of whatever others are changing meanwhile.
    """
    query(frozenset())
    wanted = id_of(util_id, "util")
    body = deps.contract.check_shape("UpdateUtilRequest", read_json(deps.settings))
    for _ in range(_TRIES - 1):
        try:
            return _updated(deps, call, wanted, body)
        except RevisionMismatch:
            if "HTTP_IF_MATCH" in request.environ:
                raise
    return _updated(deps, call, wanted, body)


def _updated(deps: Deps, call: Call, wanted: UUID, body: Json) -> Response:
    """Read, check, write; raises RevisionMismatch when another change came between."""
    caller = call.caller
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        util = util_store.seen(conn, wanted)
        latest = util_versions.get(conn, wanted, util.version)
    expected_revision(util)
    if util.access not in {"owner", "edit"}:
        raise NotPermitted(f"this util is shared with you for {util.access}, not for edit")
    if body.get("kind", util.kind) != util.kind:
        message = "kind is written once; create another util for the other kind."
        raise Invalid([Fault(pointer="/kind", message=message)])

    about, said = about_of(body, util), said_anew(body, util, latest)
    content = _checked(deps, call, util, about, said) if differs(said, latest) else None

    with changing(deps, call, wanted) as conn:
        changed = util_store.update(
            conn,
            util,
            by=caller.key_id,
            about=about if about != about_of({}, util) else None,
            content=content,
            expected=util.revision,
            advisory=deps.is_advisory,
        )
        changed = _with_status(deps, conn, call, changed, body.get("status"))
        version = util_versions.get(conn, wanted, changed.version)
    return answer(util_document(changed, version), ETag=etag_of(changed))


def rollback_util(deps: Deps, call: Call, util_id: str) -> Response:
    """Make an earlier version's content the newest version."""
    query(frozenset())
    wanted, caller = id_of(util_id, "util"), call.caller
    body = deps.contract.check_shape("RollbackRequest", read_json(deps.settings))
    with changing(deps, call, wanted) as conn:
        util = util_versions.rollback(
            conn,
            wanted,
            int(body["version"]),
            by=caller.key_id,
            expected=expected_revision(util_store.seen(conn, wanted)),
            advisory=deps.is_advisory,
        )
        version = util_versions.get(conn, wanted, util.version)
    return answer(util_document(util, version), ETag=etag_of(util))


def delete_util(deps: Deps, call: Call, util_id: str) -> Response:
    """End a util; 409 while it is shared, or requests of it have not ended."""
    query(frozenset())
    wanted, caller = id_of(util_id, "util"), call.caller
    with changing(deps, call, wanted) as conn:
        util_status.delete(
            conn,
            wanted,
            by=caller.key_id,
            expected=expected_revision(util_store.seen(conn, wanted)),
        )
    return answer(deleted_document(wanted))


def expected_revision(util: Util) -> int | None:
    """Return the revision that the caller has read, None if it does not say.

    Raises RevisionMismatch when that is not the present one, BadRequest for what is no ETag.
    """
    if "HTTP_IF_MATCH" not in request.environ:
        return None
    match = request.if_match
    if not match:
        raise BadRequest('If-Match must be the ETag of a util, like "3"')
    if match.star_tag:
        return None
    if not match.contains(str(util.revision)):
        raise RevisionMismatch(f"the util has changed; its ETag is {etag_of(util)} now")
    return util.revision


def _checked(deps: Deps, call: Call, util: Util, about: About, said: Said) -> Content:
    house = house_of(deps, call)
    require_sound(said, house.ceilings, most_code_bytes=deps.settings.util_max_code_bytes)
    found = verdict(
        deps,
        house,
        said,
        description=about.description,
        owner=util.owner,
        history=history_of(deps, call, util.util_id),
    )
    validation: Json = require_valid(deps, found)
    return said.content(validation)


def _with_status(deps: Deps, conn: Connection, call: Call, util: Util, status: str | None) -> Util:
    """Make the latest version active, or none, where that was asked for and is not so already."""
    if status == "inactive" and util.status != "inactive":
        return util_status.deactivate(conn, util.util_id, by=call.caller.key_id)
    if status == "active" and (util.status, util.active_version) != ("active", util.version):
        return util_status.activate(
            conn, util.util_id, by=call.caller.key_id, advisory=deps.is_advisory
        )
    return util
