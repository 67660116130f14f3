"""Brings utils into the platform through its API; a second time it finds them there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from csb_core.local.client import Client, Unanswered

UTILS: Final = "/api/v1/utils"

#: What makes a new version when it is changed.
CONTENT: Final = ("kind", "code", "parameters", "test_cases")


def load(api: Client, bodies: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """See to it that these utils are there and active; return the id of each by name.

    Raises Unanswered, also when the test cases of one are not green.
    """
    return {body["name"]: _loaded(api, body) for body in bodies}


def _loaded(api: Client, body: Mapping[str, Any]) -> str:
    known = _known(api, body["name"])
    if known is None:
        known = api.post(UTILS, dict(body))
    elif not all(_says(known[field], body[field]) for field in CONTENT if field in body):
        change = {field: value for field, value in body.items() if field != "status"}
        known = api.put(f"{UTILS}/{known['util_id']}", change)
    if known["active_version"] != known["version"]:
        _activate(api, known)
    util_id: str = known["util_id"]
    return util_id


def _known(api: Client, name: str) -> Any:
    found = api.get(f"{UTILS}?page_size=100&q={quote(name)}")["items"]
    named = next((util for util in found if util["name"] == name), None)
    return api.get(f"{UTILS}/{named['util_id']}") if named else None


def _says(known: Any, wanted: Any) -> bool:
    """Whether what is there is what is wanted; the API fills in what was left out."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        return all(known.get(name) == value for name, value in wanted.items())
    return bool(known == wanted)


def _activate(api: Client, util: Mapping[str, Any]) -> None:
    """Have its test cases run, and only then let it be used."""
    path = f"{UTILS}/{util['util_id']}/activate"
    answer = api.post(f"{path}?wait=30", {})
    if answer.get("status") != "active":
        raise Unanswered(f"POST {path}: {util['name']} is not active: {answer}")
