"""The one way in: every call is authenticated, authorised and counted before a view sees it."""

from __future__ import annotations

from typing import Final

from flask import Response, request

from api_service.auth import Scope, authenticate, authorise
from api_service.call import Call
from api_service.deps import Deps
from api_service.route import Route
from api_service.tracing import trace_of
from csb_core import log

#: Where the caller's standing waits for the answer that tells of it.
STANDING: Final = "csb.standing"


def enter(deps: Deps, route: Route, **path: str) -> Response:
    """Authenticate -> authorise -> limit -> view; a route of scope PUBLIC is open to anybody."""
    environ = request.environ
    trace = trace_of(environ)
    if route.scope is Scope.PUBLIC:
        return route.view(deps, **path)

    known = authenticate(deps.keyring, environ)
    caller = known.caller
    log.bind(tenant_id=str(caller.tenant_id), user_id=caller.key_id, **path)
    authorise(caller, route.scope)
    environ[STANDING] = deps.limits.count(known, cost=route.cost)

    return route.view(deps, Call(caller=caller, trace=trace), **path)
