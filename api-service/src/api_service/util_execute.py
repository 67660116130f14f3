"""POST /api/v1/utils/{id}/execute: a request like any other, posted by the util's own path."""

from __future__ import annotations

from typing import Any

from flask import Response

from api_service.call import Call
from api_service.create import require_accepted
from api_service.deps import Deps
from api_service.documents import answer, path_of
from api_service.incoming import id_of, idempotency_key, query, read_json, with_key
from api_service.pinning import RUN, SANDBOX, draft_for
from api_service.polling import wait_for, wait_seconds
from api_service.util_documents import execution_of_draft, execution_of_request
from csb_core import log
from csb_core.errors import StoreUnavailable
from csb_core.models import Json
from csb_core.requests import Accepted
from csb_core.states import FINAL


def execute_util(deps: Deps, call: Call, util_id: str) -> Response:
    """Accept one execution; with ?wait=, answer with its result as soon as it has ended.

    200 for what has ended, or was accepted before under the same key; else 202.
    """
    seconds = wait_seconds(query(frozenset({"wait"})).get("wait"))
    wanted = str(id_of(util_id, "util"))
    body = with_key(read_json(deps.settings), idempotency_key())
    payload = payload_of(wanted, deps.contract.check_shape("ExecutionRequest", body))

    draft = draft_for(deps, call, payload, at="")
    accepted = require_accepted(draft, deps.submitter.submit([draft])[0])
    assert accepted.correlation_id is not None
    log.bind(correlation_id=str(accepted.correlation_id))

    shown = _shown(deps, call, accepted, seconds)
    document = execution_of_request(shown) if shown else execution_of_draft(draft, accepted)
    is_known = accepted.outcome == "exists" or document["status"] in FINAL
    return answer(document, 200 if is_known else 202, Location=path_of(accepted.correlation_id))


def _shown(deps: Deps, call: Call, accepted: Accepted, seconds: float) -> bytes | None:
    """Return the request's document; None when it stands as it was accepted, for all we can see."""
    assert accepted.correlation_id is not None
    tenant_id, correlation_id = call.caller.tenant_id, accepted.correlation_id
    is_new = accepted.outcome == "created"
    try:
        if seconds:
            return wait_for(
                deps,
                tenant_id,
                correlation_id,
                seconds,
                is_awaited=lambda shown: shown.is_final,
                is_ours=True,
            ).document
        return None if is_new else deps.reader.read(tenant_id, correlation_id).document
    except StoreUnavailable:
        if is_new:
            return None  # accepted it is: a 503 would have it asked for once more
        raise


def payload_of(util_id: str, body: Json) -> Json:
    """Return the body of POST /api/v1/requests that asks for the same execution."""
    parameters: dict[str, Any] = {"util_id": util_id, **body}
    key = parameters.pop("client_request_id", None)
    payload = {"cloud_provider": SANDBOX, "action": RUN, "parameters": parameters}
    return payload if key is None else {**payload, "client_request_id": key}
