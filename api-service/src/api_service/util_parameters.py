"""The parameters of the routes of utils, as OpenAPI describes them."""

from __future__ import annotations

from typing import Final

from api_service.parameters import Parameter, of_query
from api_service.util_show import ACTIONS, DEFAULT_SIZE, LARGEST_PAGE, LARGEST_SIZE
from csb_core.models import Json

_TEXT: Final[Json] = {"type": "string"}
_NUMBER: Final[Json] = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
_SIZE: Final[Json] = {
    "type": "integer",
    "minimum": 1,
    "maximum": LARGEST_SIZE,
    "default": DEFAULT_SIZE,
}


def _in_path(name: str, description: str) -> Parameter:
    return Parameter(name=name, place="path", schema=_TEXT, description=description)


UTIL_ID: Final = _in_path("util_id", "The util's id; one that your key may not see is not found.")
NUMBER: Final = _in_path("number", "The version's number.")
SHARE_ID: Final = _in_path("share_id", "The share's id.")
RULE_ID: Final = _in_path("rule_id", "Your name for the rule.")
IF_MATCH: Final = Parameter(
    name="If-Match",
    place="header",
    schema=_TEXT,
    description="The ETag that you have read: 412 when the util has changed since.",
)
VERSION: Final = of_query("version", _NUMBER, "Which version; left out, the latest.")
FROM: Final = of_query("from", _NUMBER, "The older version; left out, the one before `to`.")
TO: Final = of_query("to", _NUMBER, "The newer version; left out, the latest.")
_CURSOR: Final = of_query("cursor", _TEXT, "The next_cursor of the page before.")
ACTION: Final = of_query(
    "action", {"enum": list(ACTIONS), "default": ACTIONS[0]}, "What was done with the util."
)
PAGED: Final = (of_query("limit", _SIZE, "How many a page holds."), _CURSOR)
LISTED: Final = (
    of_query("status", {"enum": ["active", "inactive"]}, "Whether it runs."),
    of_query("kind", {"enum": ["transformer", "script"]}, "What kind of util it is."),
    of_query("category", _TEXT, "Its category."),
    of_query("tag", _TEXT, "A tag that it has."),
    of_query("q", _TEXT, "A part of its name or description, in any case."),
    of_query("shared", {"enum": ["true", "false"]}, "true: other tenants' only; false: yours."),
    of_query(
        "page", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}, "The page's number."
    ),
    of_query("page_size", _SIZE, "How many utils a page holds."),
    _CURSOR,
)
