"""Reads a request's body: bytes to a JSON value that PostgreSQL stores and gives back unchanged.

Python's decoder would take NaN, keep the last of two equal names and pass lone surrogates;
each is refused here, with a pointer, before anything else looks at the value.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from csb_core.faults import MOST_FAULTS, Fault, Invalid, Malformed, TooDeep, pointer

DEEPEST: Final = 64

#: Integers that every JSON reader holds exactly (RFC 7493); no number may lie beyond them.
_LARGEST: Final = 2**53 - 1
_LONGEST_NUMBER: Final = len(str(-_LARGEST))
_TOO_LARGE: Final = "the number lies beyond 2^53 - 1; send it as a string"

#: Each bracket is an object of Python's in the end: more of them than this is no request.
_MOST_CONTAINERS: Final = 200_000

#: A text, also one that never ends, and never looked at twice: else a body of quotes took hours.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


class _Flaw(str):
    """Stands in a parsed value where something was that cannot be kept; its text says why."""

    __slots__ = ()


def parse(data: bytes) -> Any:
    """Return the value that `data` holds.

    Raises Malformed or TooDeep for what is no JSON of ours, Invalid for what could not be stored.
    """
    _require_shallow(data)
    flaws: list[_Flaw] = []
    try:
        value = _decoder(flaws).decode(data.decode())
    except RecursionError as exc:
        raise TooDeep(f"the body nests deeper than {DEEPEST} levels") from exc
    except UnicodeDecodeError as exc:
        raise Malformed(f"the body is not UTF-8 (byte {exc.start})") from exc
    except json.JSONDecodeError as exc:
        raise Malformed(
            f"the body is not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})"
        ) from exc
    if flaws or b"\\u" in data:
        _require_storable(value)
    return value


def _require_shallow(data: bytes) -> None:
    """Count levels on the bytes: cheaper than parsing, and safe from a body made to overflow us."""
    containers = data.count(b"[") + data.count(b"{")
    if containers <= DEEPEST:
        return
    if containers > _MOST_CONTAINERS:
        raise Malformed(f"the body holds more than {_MOST_CONTAINERS} objects and arrays")
    brackets = _STRING.sub(b"", data).translate(_ONE_KIND, _NO_BRACKET)
    for _ in range(DEEPEST):
        without_innermost = brackets.replace(b"[]", b"")
        if len(without_innermost) == len(brackets):
            return  # nothing left, or unbalanced: the parser will say so
        brackets = without_innermost
    if brackets:
        raise TooDeep(f"the body nests deeper than {DEEPEST} levels")


def _decoder(flaws: list[_Flaw]) -> json.JSONDecoder:
    """Return a decoder that puts a flaw, and notes it, in place of what cannot be kept."""

    def flaw(reason: str) -> _Flaw:
        flaws.append(_Flaw(reason))
        return flaws[-1]

    def constant(name: str) -> _Flaw:
        return flaw(f"{name} is not a JSON number; leave the field out, or send null")

    def whole(text: str) -> int | _Flaw:
        within = len(text) <= _LONGEST_NUMBER and abs(int(text)) <= _LARGEST
        return int(text) if within else flaw(_TOO_LARGE)

    def fraction(text: str) -> float | _Flaw:
        return float(text) if abs(float(text)) <= _LARGEST else flaw(_TOO_LARGE)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            for name in (name for name, times in Counter(n for n, _ in pairs).items() if times > 1):
                found[name] = flaw("the name stands twice in its object; keep one")
        return found

    return json.JSONDecoder(
        object_pairs_hook=members, parse_constant=constant, parse_int=whole, parse_float=fraction
    )


def _require_storable(value: Any) -> None:
    faults = [
        Fault(pointer=pointer(path).encode("utf-8", "backslashreplace").decode(), message=reason)
        for path, reason in islice(_unstorable(value, ()), MOST_FAULTS)
    ]
    if faults:
        raise Invalid(faults)


def _unstorable(
    value: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, _Flaw):
        yield path, str(value)
    elif isinstance(value, str):
        if reason := _unstorable_text(value):
            yield path, reason
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, (*path, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            if reason := _unstorable_text(name):
                yield (*path, name), f"in the name: {reason}"
            yield from _unstorable(item, (*path, name))


def _unstorable_text(text: str) -> str | None:
    if "\0" in text:
        return "the text holds \\u0000, which cannot be stored; leave the character out"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "the text holds half of a surrogate pair; send the whole character"
    return None
