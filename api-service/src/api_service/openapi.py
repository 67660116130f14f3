"""Writes the OpenAPI 3.1 document from schema.json and the table of routes: nothing said twice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from api_service.auth import Scope
from api_service.parameters import Parameter
from api_service.route import Route
from csb_core.config import VERSION
from csb_core.contract import Contract
from csb_core.models import Json

_COMPONENTS: Final = "#/components/schemas/"
_PATH_PARAMETER: Final = re.compile(r"<([a-z_]+)>")

#: Problems that every route with a key can give, and those that every route can.
_WITH_KEY: Final = (401, 403, 429, 503)
_ALWAYS: Final = (500,)

_MEANINGS: Final = {
    200: "Done, or known from before",
    201: "Created",
    202: "Accepted, and durable",
    207: "Some were accepted, some were not: see each result",
    304: "Nothing has changed",
    400: "The body is no JSON of ours, or a header or parameter is wrong",
    401: "No valid key",
    403: "The key lacks the scope, the account is not registered, or this is not yours to do",
    404: "Your tenant has no such thing",
    408: "The body did not come in time",
    409: "The state does not allow it (correlation_id names the replay that is there already), or"
    " client_request_id named another body",
    412: "It has changed since you read it",
    413: "The body is too large",
    415: "The body is not declared as application/json, or is compressed",
    422: "The body is not what is asked for; `errors` names every fault",
    429: "Too many requests; see Retry-After",
    500: "Something went wrong here",
    503: "The database does not answer, or the validator is busy; see Retry-After",
}

#: Documents that come with the place where their subject is found.
_LOCATED: Final = ("Receipt", "ExecutionResponse")
_LOCATED_WHEN_NEW: Final = ("UtilResponse", "Share")

_HEADERS: Final[dict[str, Json]] = {
    "X-Request-ID": {"description": "The name of this exchange, yours when it was valid."},
    "Location": {"description": "Where it is found."},
    "ETag": {"description": "The version of the request, or the revision of the util."},
    "X-Cache": {"description": "hit or miss."},
    "Retry-After": {"description": "Seconds to wait."},
    "RateLimit-Limit": {"description": "Requests in the window of the tighter limit."},
    "RateLimit-Remaining": {"description": "Requests left in it."},
    "RateLimit-Reset": {"description": "Seconds until some are free again."},
}


def write(contract: Contract, routes: Iterable[Route]) -> Json:
    """Return the document."""
    paths: dict[str, Json] = {}
    for route in routes:
        path = _PATH_PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CSecBridge",
            "version": VERSION,
            "summary": "Accepts security actions, carries them out once, and proves it.",
            "description": contract.document["description"],
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"bearer": []}],
        "tags": [{"name": name} for name in ("requests", "utils", "contract", "probes")],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "headers": {
                name: {**header, "schema": {"type": "string"}} for name, header in _HEADERS.items()
            },
            "schemas": _schemas(contract.document),
        },
    }


def _schemas(document: Json) -> Json:
    """Return schema.json's definitions, and its own oneOf as `requests`."""
    return {
        **{name: _moved(schema) for name, schema in document["$defs"].items()},
        "requests": _moved({"oneOf": document["oneOf"]}),
        "Document": {"type": "object"},
    }


def _moved(schema: Any) -> Any:
    """Point references to where OpenAPI keeps its schemas."""
    if isinstance(schema, dict):
        return {
            name: value.replace("#/$defs/", _COMPONENTS) if name == "$ref" else _moved(value)
            for name, value in schema.items()
        }
    if isinstance(schema, list):
        return [_moved(item) for item in schema]
    return schema


def _operation(route: Route) -> Json:
    problems = {*route.refuses, *_ALWAYS}
    if route.scope is not Scope.PUBLIC:
        problems.update(_WITH_KEY)
    operation: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": {
            **{str(s): _response(s, name, "application/json") for s, name in route.answers.items()},
            **{
                str(s): _response(s, "Problem", "application/problem+json")
                for s in sorted(problems - set(route.answers))
            },
        },
    }
    if route.is_alias:
        operation["deprecated"] = True
    if route.scope is Scope.PUBLIC:
        operation["security"] = []
    else:
        operation["description"] = _description(route)
    if route.parameters:
        operation["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"{_COMPONENTS}{route.body}"}}},
        }
    return operation


def _description(route: Route) -> str:
    scope = "any valid key" if route.scope is Scope.ANY_KEY else f"the scope `{route.scope.value}`"
    return f"Needs {scope}; counts as {route.cost} in the rate limits."


def _response(status: int, schema: str | None, media_type: str) -> Json:
    response: Json = {
        "description": _MEANINGS[status],
        "headers": {
            name: {"$ref": f"#/components/headers/{name}"} for name in _headers_of(status, schema)
        },
    }
    if schema:
        response["content"] = {media_type: {"schema": {"$ref": f"{_COMPONENTS}{schema}"}}}
    return response


def _headers_of(status: int, schema: str | None) -> list[str]:
    names = ["X-Request-ID"]
    if schema in _LOCATED or (status == 201 and schema in _LOCATED_WHEN_NEW):
        names.append("Location")
    if schema in ("Request", "UtilResponse") or status == 304:
        names.append("ETag")
    if status in (429, 503):
        names.append("Retry-After")
    if status == 429:
        names += ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]
    return names


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": parameter.schema,
    }
