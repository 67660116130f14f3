"""Every route in one table: what it asks of a key, what it does, what it can answer.

The app registers nothing else, and the OpenAPI document is written from it.
"""

from __future__ import annotations

from typing import Final

from api_service import contract_view, probes
from api_service.auth import Scope
from api_service.route import Route
from api_service.routes_of_requests import REQUEST_ROUTES
from api_service.routes_of_utils import UTIL_ROUTES

ROUTES: Final[tuple[Route, ...]] = (
    *REQUEST_ROUTES,
    *UTIL_ROUTES,
    Route(
        method="GET",
        path="/api/v1/schema",
        scope=Scope.ANY_KEY,
        view=contract_view.show_schema,
        summary="Read schema.json: what a POST may carry",
        answers={200: "Document"},
        tag="contract",
    ),
    Route(
        method="GET",
        path="/api/v1/openapi.json",
        scope=Scope.ANY_KEY,
        view=contract_view.show_openapi,
        summary="Read this API's OpenAPI document",
        answers={200: "Document"},
        tag="contract",
    ),
    Route(
        method="GET",
        path="/health",
        scope=Scope.PUBLIC,
        view=probes.health,
        summary="Is the process alive?",
        answers={200: "Health"},
        tag="probes",
    ),
    Route(
        method="GET",
        path="/ready",
        scope=Scope.PUBLIC,
        view=probes.ready,
        summary="Can it serve? PostgreSQL and Redis are really asked",
        answers={200: "Readiness", 503: "Readiness"},
        tag="probes",
    ),
)
