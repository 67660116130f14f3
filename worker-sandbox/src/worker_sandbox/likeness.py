"""Whether two JSON values are the same, and where they first differ."""

from __future__ import annotations

from typing import Any, Final

from csb_core.faults import pointer
from csb_core.models import Json

#: Characters of a value that a difference shows.
LONGEST: Final = 500

Path = tuple[str | int, ...]


def difference(expected: Any, actual: Any) -> Json | None:
    """Return {pointer, expected, actual} of the first difference; None when there is none.

    As JSON has it: 1 and 1.0 are one number, true and 1 are not, the order of names is nothing.
    """
    waiting: list[tuple[Path, Any, Any]] = [((), expected, actual)]
    while waiting:
        path, wanted, got = waiting.pop()
        if isinstance(wanted, dict) and isinstance(got, dict):
            missing = [name for name in wanted if name not in got]
            surplus = [name for name in got if name not in wanted]
            if missing:
                return _told((*path, missing[0]), wanted[missing[0]], None, "it is missing")
            if surplus:
                return _told((*path, surplus[0]), None, got[surplus[0]], "it was not expected")
            waiting += [((*path, name), wanted[name], got[name]) for name in reversed(wanted)]
        elif isinstance(wanted, list) and isinstance(got, list):
            if len(wanted) != len(got):
                why = f"{len(wanted)} items were expected, {len(got)} came"
                return _told(path, wanted, got, why)
            pairs = list(enumerate(zip(wanted, got, strict=True)))
            waiting += [((*path, index), *pair) for index, pair in reversed(pairs)]
        elif not _same(wanted, got):
            return _told(path, wanted, got, "it is another value")
    return None


def _same(wanted: Any, got: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    return bool(wanted == got)


def _told(path: Path, expected: Any, actual: Any, why: str) -> Json:
    return {
        "pointer": pointer(path),
        "reason": why,
        "expected": _shown(expected),
        "actual": _shown(actual),
    }


def _shown(value: Any) -> Any:
    """A value whole when it is small, else the beginning of its text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    if len(text) <= LONGEST:
        return value
    return f"{text[:LONGEST]} ... {len(text) - LONGEST} characters more"
