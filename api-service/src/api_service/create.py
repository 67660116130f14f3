"""POST /api/v1/requests: the first half of the line."""

from __future__ import annotations

from flask import Response

from api_service.call import Call
from api_service.deps import Deps
from api_service.documents import answer, path_of, receipt
from api_service.errors import KeyReused, UtilNotActive
from api_service.incoming import idempotency_key, query, read_json, with_key
from api_service.pinning import draft_for
from api_service.submitter import Answer
from csb_core import log, metrics
from csb_core.errors import AccountNotRegistered, BridgeError, NotFound
from csb_core.models import Draft
from csb_core.requests import Accepted


def create(deps: Deps, call: Call) -> Response:
    """Accept one request: authenticate -> limit -> validate -> persist -> publish.

    The door (`door.enter`) has authenticated and limited the call; the submitter persists it with
    its neighbours in one commit, and publishes after that. 202, or 200 for a repetition.
    """
    query(frozenset())  # a dry_run, say, that stood there would do nothing: it belongs in the body
    body = read_json(deps.settings)
    payload = deps.contract.check(with_key(body, idempotency_key()))
    draft = draft_for(deps, call, payload)
    accepted = require_accepted(draft, deps.submitter.submit([draft])[0])
    return acceptance(draft, accepted)


def require_accepted(draft: Draft, answer: Answer) -> Accepted:
    """Return the acceptance of a draft; raises why it was not accepted."""
    if isinstance(answer, BridgeError):
        raise answer
    if answer.outcome == "conflict":
        raise KeyReused(
            f"client_request_id {draft.client_request_id} named another body before; "
            "use a new one for a new request"
        )
    if answer.outcome == "account_not_registered":
        raise AccountNotRegistered(
            f"account {draft.payload.get('account_id')} is not registered for your tenant; "
            "an operator does that: csbctl account register"
        )
    if answer.outcome == "util_not_found":
        raise NotFound("your key may run no util with this id")
    if answer.outcome == "util_not_active":
        raise UtilNotActive(
            "this version may not run now: the util is not active, or the version is not valid "
            "here, or its test cases have not passed"
        )
    provider, action = draft.payload["cloud_provider"], draft.payload["action"]
    if answer.outcome == "created":
        metrics.ACCEPTED.labels(provider, action).inc()
    else:
        metrics.REPEATED.labels(provider).inc()
    return answer


def acceptance(draft: Draft, accepted: Accepted) -> Response:
    """Return the answer to an accepted draft."""
    assert accepted.correlation_id is not None
    log.bind(correlation_id=str(accepted.correlation_id))
    status = 202 if accepted.outcome == "created" else 200
    return answer(receipt(draft, accepted), status, Location=path_of(accepted.correlation_id))
