"""The parameters of the routes, as OpenAPI describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from api_service.polling import LONGEST_WAIT
from api_service.search import DEFAULT_LIMIT, LARGEST_LIMIT
from csb_core.models import Json
from csb_core.states import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a path, a query or a header."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Json
    description: str


def of_query(name: str, schema: Json, description: str) -> Parameter:
    """Return a parameter of the query."""
    return Parameter(name=name, place="query", schema=schema, description=description)


_TEXT: Final[Json] = {"type": "string"}
_TIME: Final[Json] = {"type": "string", "format": "date-time"}

ID: Final = Parameter(
    name="correlation_id",
    place="path",
    schema={"type": "string"},
    description="The request's id; what is no id of your tenant's is not found.",
)
IDEMPOTENCY_KEY: Final = Parameter(
    name="Idempotency-Key",
    place="header",
    schema={"type": "string", "pattern": "^[!-~]{1,128}$"},
    description="The equal of client_request_id, bare or in double quotes; when both are sent they "
    "must be alike.",
)
IF_NONE_MATCH: Final = Parameter(
    name="If-None-Match",
    place="header",
    schema=_TEXT,
    description="An ETag: 304 if it still holds; with wait, answer as soon as it does not.",
)
WAIT: Final = of_query(
    "wait",
    {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT},
    "Wait up to so many seconds for the end of the request, or for a change from If-None-Match. "
    "A busy process may answer earlier.",
)
SEARCH: Final = (
    of_query("status", {"enum": list(Status)}, "Where the request stands."),
    of_query("cloud_provider", _TEXT, "Whose action it is: a provider of schema.json."),
    of_query(
        "action",
        _TEXT,
        "What it does: an action that schema.json defines, of this provider if one is given; also "
        "one that is taken no more.",
    ),
    of_query("account_id", _TEXT, "Where it acts: an account as the provider spells it."),
    of_query("principal_type", _TEXT, "On what kind of principal: one that an action takes."),
    of_query("principal_name", _TEXT, "On which principal."),
    of_query("client_request_id", _TEXT, "What you called it."),
    of_query("util_id", {"type": "string", "format": "uuid"}, "Which util it runs, or tests."),
    of_query("created_from", _TIME, "Accepted at this time or later."),
    of_query("created_to", _TIME, "Accepted before this time."),
    of_query(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT},
        "How many requests a page holds.",
    ),
    of_query("cursor", _TEXT, "The next_cursor of the page before."),
)
