"""POST /api/v1/utils, and POST /api/v1/utils/validate, which stores nothing."""

from __future__ import annotations

from flask import Response

from api_service.call import Call
from api_service.changing import changing
from api_service.deps import Deps
from api_service.documents import answer
from api_service.incoming import query, read_json
from api_service.util_bodies import about_of, require_sound, said_of
from api_service.util_checking import house_of, require_valid, verdict
from api_service.util_documents import etag_of, util_document, util_path
from csb_core import metrics, util_store, util_versions


def create_util(deps: Deps, call: Call) -> Response:
    """Store a new util: check -> validate -> persist. It is active at once if it may be."""
    query(frozenset())
    caller = call.caller
    body = deps.contract.check_shape("CreateUtilRequest", read_json(deps.settings))
    house = house_of(deps, call)
    about, said = about_of(body), said_of(body, house.ceilings)
    require_sound(said, house.ceilings, most_code_bytes=deps.settings.util_max_code_bytes)

    found = verdict(deps, house, said, description=about.description, owner=caller.key_id)
    validation = require_valid(deps, found)

    with changing(deps, call) as conn:
        util = util_store.create(
            conn,
            about,
            said.content(validation),
            kind=body["kind"],
            by=caller.key_id,
            active=body.get("status") != "inactive",
            advisory=deps.is_advisory,
        )
        version = util_versions.get(conn, util.util_id, util.version)
    user = caller.key_id if deps.settings.metrics_user_label else ""
    metrics.UTILS_CREATED.labels(str(caller.tenant_id), user).inc()
    return answer(
        util_document(util, version), 201, ETag=etag_of(util), Location=util_path(util.util_id)
    )


def validate_util(deps: Deps, call: Call) -> Response:
    """Answer with what the validator says of a source, and store nothing."""
    query(frozenset())
    body = deps.contract.check_shape("ValidateUtilRequest", read_json(deps.settings))
    house = house_of(deps, call)
    said = said_of(body, house.ceilings)
    require_sound(said, house.ceilings, most_code_bytes=deps.settings.util_max_code_bytes)
    description = body.get("description", "")
    found = verdict(deps, house, said, description=description, owner=call.caller.key_id)
    return answer(found.document())
