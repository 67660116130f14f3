"""POST /api/v1/requests/batch: many requests, one transaction, one publish, a result for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Response, request

from api_service.call import Call
from api_service.create import require_accepted
from api_service.deps import Deps
from api_service.documents import answer, receipt
from api_service.errors import BadRequest, OutcomeUnknown, problem_of
from api_service.incoming import query, read_json
from api_service.pinning import draft_for
from csb_core.errors import BridgeError, StoreUnavailable
from csb_core.models import Draft, Json
from csb_core.value_schema import Allowance


def create_batch(deps: Deps, call: Call) -> Response:
    """Accept up to 1000 requests: 202 when all are accepted, else 207; see each one's result."""
    query(frozenset())
    if "Idempotency-Key" in request.headers:
        raise BadRequest("a batch has no Idempotency-Key; give each request a client_request_id")
    body = read_json(deps.settings, most_bytes=deps.settings.max_batch_body_bytes)
    items = deps.contract.check_shape("BatchRequest", body)["requests"]

    allowance = Allowance()
    drafts = [_draft(deps, call, item, allowance) for item in items]
    valid = [draft for draft in drafts if isinstance(draft, Draft)]
    answers = deps.submitter.submit(valid) if valid else []
    _require_some_answer(answers)

    given = iter(answers)
    results = [
        _result(index, draft, next(given) if isinstance(draft, Draft) else draft)
        for index, draft in enumerate(drafts)
    ]
    refused = sum("problem" in result for result in results)
    document = {"accepted": len(results) - refused, "refused": refused, "results": results}
    return answer(document, 207 if refused else 202)


def _draft(deps: Deps, call: Call, item: Any, allowance: Allowance) -> Draft | BridgeError:
    try:
        return draft_for(deps, call, deps.contract.check(item), allowance=allowance)
    except BridgeError as exc:
        return exc


def _require_some_answer(answers: Sequence[Any]) -> None:
    """Raise StoreUnavailable when PostgreSQL was away for all of them, and nothing was stored."""
    if answers and all(
        isinstance(given, StoreUnavailable) and not isinstance(given, OutcomeUnknown)
        for given in answers
    ):
        raise answers[0]


def _result(index: int, draft: Draft | BridgeError, given: Any) -> Json:
    try:
        if isinstance(draft, BridgeError):
            raise draft
        accepted = require_accepted(draft, given)
    except BridgeError as exc:
        told = problem_of(exc)
        return {"index": index, "http_status": told["status"], "problem": told}
    status = 202 if accepted.outcome == "created" else 200
    return {"index": index, "http_status": status, "request": receipt(draft, accepted)}
