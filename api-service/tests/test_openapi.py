"""The contract as machines read it: valid, complete, and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api_service.errors import PROBLEMS
from api_service.openapi import _MEANINGS
from api_service.routes import ROUTES
from csb_core.testing import make_payload

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
BOUNDED = settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def document(client: FlaskClient) -> Any:
    """The document as it is served."""
    answered = client.get("/api/v1/openapi.json")
    assert answered.status_code == 200
    return answered.get_json()


def test_document_is_valid(document: Any) -> None:
    validate(document)


def test_document_names_every_route_and_action(document: Any, client: FlaskClient) -> None:
    named = {
        (path.replace("{", "<").replace("}", ">"), method.upper())
        for path, item in document["paths"].items()
        for method in item
    }
    assert named == {(route.path, route.method) for route in ROUTES}
    schema = client.get("/api/v1/schema").get_json()
    assert len(document["components"]["schemas"]["requests"]["oneOf"]) == len(schema["oneOf"])


def test_alias_is_described_as_its_route_is(document: Any) -> None:
    first = {path: item for path, item in document["paths"].items() if "/utils" in path}
    assert len(first) > 10
    for path, item in first.items():
        alias = document["paths"][path.replace("/utils", "/utis")]
        for method, operation in item.items():
            other = dict(alias[method])
            assert other.pop("deprecated") is True
            assert other.pop("operationId") == f"{operation['operationId']}_by_alias"
            assert other == {k: v for k, v in operation.items() if k != "operationId"}


def test_every_problem_has_a_meaning() -> None:
    assert {kind.status for kind in PROBLEMS.values()} <= set(_MEANINGS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_api_keeps_to_its_document(
    app: Flask,
    tenant: Any,
    client: FlaskClient,
    new_util: Callable[..., Any],
    mode: GenerationMode,
) -> None:
    """Schemathesis finds no 5xx, no undocumented status, media type or shape.

    An alias is the same view under the same description, so it is tried by its first path only.
    """
    known = {
        "correlation_id": client.post("/api/v1/requests", json=make_payload()).get_json()[
            "correlation_id"
        ],
        "util_id": new_util()["util_id"],
        "number": "1",
    }
    headers = {"X-Auth-Token": tenant.token}
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app, headers=headers)
    seen: Counter[int] = Counter()

    def check(case: Any) -> None:
        if seen.total() % 2:
            case.path_parameters |= {
                name: known[name] for name in case.path_parameters if name in known
            }
        if case.query and "wait" in case.query:
            case.query["wait"] = 0  # the document allows 30 s, and the test has less
        answered = case.call_and_validate(headers=headers, checks=CHECKS)
        seen[answered.status_code] += 1

    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        if found.ok().definition.raw.get("deprecated"):
            continue
        cases = found.ok().as_strategy(generation_mode=mode)
        with suppress(Unsatisfiable):  # nothing to send can be wrong
            BOUNDED(given(case=cases)(check))()

    assert {200, 404} < set(seen)
    assert seen.total() > 60
