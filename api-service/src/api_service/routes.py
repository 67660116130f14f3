"""Every route in one table: what it asks of a key, what it does, what it can answer.

The app registers nothing else, and the OpenAPI document is written from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flask import Response

from api_service import batch, contract_view, create, moves, probes, search, show
from api_service.auth import Scope
from api_service.documents import ROOT
from api_service.parameters import ID, IDEMPOTENCY_KEY, IF_NONE_MATCH, SEARCH, WAIT, Parameter

#: Called as view(deps, call, **path), or view(deps) where the scope is PUBLIC.
View = Callable[..., Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path.

    `answers` maps each good status to the definition in schema.json of its document; `refuses` are
    the statuses of problems besides those that every route with a key can give.
    """

    method: str
    path: str
    scope: Scope
    view: View
    summary: str
    answers: Mapping[int, str | None]
    refuses: tuple[int, ...] = ()
    body: str | None = None
    parameters: tuple[Parameter, ...] = ()
    cost: int = 1
    tag: str = "requests"

    @property
    def name(self) -> str:
        """The endpoint's and the operation's name."""
        return self.view.__name__


BODY_FAULTS: Final = (400, 413, 415, 422)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path=ROOT,
        scope=Scope.WRITE,
        view=create.create,
        summary="Accept a request for later execution",
        body="requests",
        parameters=(IDEMPOTENCY_KEY,),
        answers={202: "Receipt", 200: "Receipt"},
        refuses=(*BODY_FAULTS, 409),
    ),
    Route(
        method="POST",
        path=f"{ROOT}/batch",
        scope=Scope.WRITE,
        view=batch.create_batch,
        summary="Accept up to 1000 requests, each for itself",
        body="BatchRequest",
        answers={202: "BatchResult", 207: "BatchResult"},
        refuses=BODY_FAULTS,
        cost=10,
    ),
    Route(
        method="GET",
        path=ROOT,
        scope=Scope.READ,
        view=search.search,
        summary="Search your tenant's requests, newest first",
        parameters=SEARCH,
        answers={200: "Page"},
        refuses=(400,),
    ),
    Route(
        method="GET",
        path=f"{ROOT}/<correlation_id>",
        scope=Scope.READ,
        view=show.show,
        summary="Read a request; wait for its end with ?wait=",
        parameters=(ID, WAIT, IF_NONE_MATCH),
        answers={200: "Request", 304: None},
        refuses=(400, 404),
    ),
    Route(
        method="GET",
        path=f"{ROOT}/<correlation_id>/audit",
        scope=Scope.READ,
        view=show.show_audit,
        summary="Read the trail of a request",
        parameters=(ID,),
        answers={200: "AuditTrail"},
        refuses=(400, 404),
    ),
    Route(
        method="GET",
        path=f"{ROOT}/<correlation_id>/refs",
        scope=Scope.READ,
        view=show.show_refs,
        summary="Read what others called our calls",
        parameters=(ID,),
        answers={200: "RefList"},
        refuses=(400, 404),
    ),
    Route(
        method="POST",
        path=f"{ROOT}/<correlation_id>/cancel",
        scope=Scope.WRITE,
        view=moves.cancel,
        summary="Cancel a request that is still PENDING",
        parameters=(ID,),
        answers={200: "Request"},
        refuses=(400, 404, 409),
    ),
    Route(
        method="POST",
        path=f"{ROOT}/<correlation_id>/replay",
        scope=Scope.OPERATE,
        view=moves.replay,
        summary="Make a new request of a FAILED one",
        parameters=(ID, IDEMPOTENCY_KEY),
        answers={202: "Receipt", 200: "Receipt"},
        refuses=(400, 404, 409),
    ),
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
