"""Makes the API: the routes of the table, one door before them, one way out behind them."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import orjson
from flask import Flask, Response, request

from api_service import errors, openapi
from api_service.deps import Deps, open_deps
from api_service.door import STANDING, enter
from api_service.limits import Standing
from api_service.listeners import BEGAN, Listeners
from api_service.probes import render_metrics
from api_service.routes import ROUTES
from api_service.statuses import GUARDS
from api_service.tracing import trace_of
from csb_core import metrics
from csb_core.config import ApiSettings
from csb_core.contract import Contract

_DEPS: Final = "csb"


def create_app(
    settings: ApiSettings, *, contract: Contract | None = None, deps: Deps | None = None
) -> Flask:
    """Make the app and open what it needs; call it after the fork, never before."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # it redirects in HTML, to whatever Host the caller names
    deps = deps or open_deps(app, settings, contract)
    app.extensions[_DEPS] = deps
    app.config["OPENAPI"] = orjson.dumps(openapi.write(deps.contract, ROUTES))
    for route in ROUTES:
        app.add_url_rule(
            route.path,
            route.name,
            partial(enter, deps, route),
            methods=[route.method],
            provide_automatic_options=False,
        )
    errors.register(app)
    app.after_request(_finish)
    # As Flask's manual wraps an app; a method of the class must not be assigned to, so by its dict.
    vars(app)["wsgi_app"] = Listeners(
        app.wsgi_app, partial(render_metrics, deps), metrics_bind=settings.metrics_bind
    )
    return app


def deps_of(app: Flask) -> Deps:
    """Return what `create_app` opened; whoever made the app closes it."""
    deps: Deps = app.extensions[_DEPS]
    return deps


def _finish(response: Response) -> Response:
    environ = request.environ
    response.headers.extend([("X-Request-ID", trace_of(environ).request_id), *GUARDS])
    standing: Standing | None = environ.get(STANDING)
    if standing is not None:
        response.headers.extend(standing.headers())
    metrics.HTTP_SECONDS.labels(*_served(), response.status_code).observe(
        time.perf_counter() - environ[BEGAN]
    )
    return response


def _served() -> tuple[str, str]:
    """Return method and route of the call; where there is none, a caller's own words are no label.

    Anybody may send any method, and each would be a time series for ever.
    """
    rule = request.url_rule
    return (request.method, rule.rule) if rule else ("none", "none")
