"""How two versions of a util differ."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final

from csb_core.faults import pointer
from csb_core.models import Json
from csb_core.util_models import UtilVersion

_FIELDS: Final = ("label", "parameters", "execution_config", "test_cases")
_ABSENT: Final = object()

#: difflib's time grows with the square of what differs; above it the whole text is the difference.
_MOST_LINES: Final = 2000


def differences(old: UtilVersion, new: UtilVersion) -> Json:
    """Return a unified diff of the code, and every other field that is not the same."""
    changes: list[Json] = []
    for name in _FIELDS:
        for path, was, is_ in _changed(getattr(old, name), getattr(new, name), (name,)):
            changes.append({"pointer": pointer(path), "from": was, "to": is_})
    return {
        "util_id": new.util_id,
        "from": old.version,
        "to": new.version,
        "code": _unified(old, new),
        "changes": changes,
    }


def _unified(old: UtilVersion, new: UtilVersion) -> str:
    before, after = old.code.splitlines(), new.code.splitlines()
    names = (f"version {old.version}", f"version {new.version}")
    if max(len(before), len(after)) > _MOST_LINES and before != after:
        head = [f"--- {names[0]}", f"+++ {names[1]}", f"@@ -1,{len(before)} +1,{len(after)} @@"]
        return "\n".join([*head, *(f"-{x}" for x in before), *(f"+{x}" for x in after)])
    return "\n".join(difflib.unified_diff(before, after, *names, lineterm=""))


def _changed(
    was: Any, is_: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any, Any]]:
    if isinstance(was, dict) and isinstance(is_, dict):
        for name in {**was, **is_}:
            yield from _changed(was.get(name, _ABSENT), is_.get(name, _ABSENT), (*path, name))
    elif was != is_:
        yield path, None if was is _ABSENT else was, None if is_ is _ABSENT else is_
