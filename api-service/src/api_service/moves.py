"""What a tenant may do to a request after it was accepted: cancel it, or have it done again."""

from __future__ import annotations

from flask import Response

from api_service.call import Call
from api_service.create import acceptance, require_accepted
from api_service.deps import Deps
from api_service.documents import answer, request_bytes
from api_service.errors import AlreadyReplayed, OutcomeUnknown
from api_service.incoming import id_of, idempotency_key, query, with_key
from api_service.pinning import draft_again
from api_service.submitter import Answer
from csb_core import requests
from csb_core.db import connection, tenant_transaction
from csb_core.errors import Conflict, NotFound, StoreUnavailable
from csb_core.faults import Invalid
from csb_core.models import Json, Request
from csb_core.requests import Accepted
from csb_core.states import Status


def cancel(deps: Deps, call: Call, correlation_id: str) -> Response:
    """Cancel a request that nobody has claimed yet; 409 when it is too late."""
    query(frozenset())
    wanted, sent = id_of(correlation_id), False
    try:
        with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
            sent = True
            cancelled = requests.cancel(conn, wanted, actor=call.caller.key_id)
    except StoreUnavailable as exc:
        if sent:  # the acknowledgement may be all that was lost
            raise OutcomeUnknown(str(wanted)) from exc
        raise
    if cancelled is None:
        raise NotFound("your tenant has no request with this id")
    deps.forgetter.forget(cancelled.correlation_id, cancelled.version)
    return answer(request_bytes(cancelled), ETag=f'"{cancelled.version}"')


def replay(deps: Deps, call: Call, correlation_id: str) -> Response:
    """Make a new request of a FAILED one, unless it has a replay; the old one stays as it is."""
    query(frozenset())
    with connection(deps.pool) as conn:
        failed = requests.get(conn, call.caller.tenant_id, id_of(correlation_id))
    if failed is None:
        raise NotFound("your tenant has no request with this id")
    if failed.status is not Status.FAILED:
        raise Conflict(f"only a FAILED request can be replayed; this one is {failed.status}")

    payload = _checked(deps, with_key(_payload_of(failed), idempotency_key()))
    draft = draft_again(deps, call, payload, failed)
    submitted = deps.submitter.submit([draft])[0]
    _require_the_first(submitted)
    return acceptance(draft, require_accepted(draft, submitted))


def _require_the_first(submitted: Answer) -> None:
    """Return unless there is a replay already; raises AlreadyReplayed, which names it."""
    if isinstance(submitted, Accepted) and submitted.outcome == "replayed":
        assert submitted.correlation_id is not None
        assert submitted.status is not None
        raise AlreadyReplayed(submitted.correlation_id, submitted.status)


def _payload_of(request: Request) -> Json:
    """Return what was asked for, without the name it was asked under: that one is used up."""
    fields = {
        "cloud_provider": request.cloud_provider,
        "action": request.action,
        "account_id": request.account_id,
        "principal": request.principal,
        "parameters": request.parameters,
        "dry_run": request.dry_run or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _checked(deps: Deps, payload: Json) -> Json:
    try:
        return deps.contract.check(payload)
    except Invalid as exc:
        raise Conflict(
            f"the contract has changed; this cannot be asked for any more: {exc}"
        ) from exc
