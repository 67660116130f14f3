"""The routes of requests: posting, reading, searching and moving them."""

from __future__ import annotations

from typing import Final

from api_service import batch, create, moves, search, show
from api_service.auth import Scope
from api_service.documents import ROOT
from api_service.parameters import ID, IDEMPOTENCY_KEY, IF_NONE_MATCH, SEARCH, WAIT
from api_service.route import BODY_FAULTS, Route

REQUEST_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path=ROOT,
        scope=Scope.WRITE,
        view=create.create,
        summary="Accept a request for later execution",
        body="requests",
        parameters=(IDEMPOTENCY_KEY,),
        answers={202: "Receipt", 200: "Receipt"},
        refuses=(*BODY_FAULTS, 404, 409),
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
)
