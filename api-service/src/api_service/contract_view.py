"""GET /api/v1/schema and /api/v1/openapi.json: the contract, for machines."""

from __future__ import annotations

from flask import Response, current_app

from api_service.call import Call
from api_service.deps import Deps
from api_service.documents import answer


def show_schema(deps: Deps, call: Call) -> Response:
    """Answer with schema.json."""
    del call
    return answer(deps.contract.document)


def show_openapi(deps: Deps, call: Call) -> Response:
    """Answer with the OpenAPI document, written when the app was made."""
    del deps, call
    document: bytes = current_app.config["OPENAPI"]
    return answer(document)
