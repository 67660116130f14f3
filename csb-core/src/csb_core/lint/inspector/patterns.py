"""CPX: regular expressions whose time explodes on a text that almost matches."""

from __future__ import annotations

import ast
import importlib
import warnings
from collections.abc import Iterator
from typing import Any, Final

from .report import Report
from .tree import Tree

_FUNCTIONS: Final = tuple(
    f"re.{name}"
    for name in ("compile", "search", "match", "fullmatch", "findall", "finditer", "split", "sub",
                 "subn")
)  # fmt: skip
_parser: Final[Any] = importlib.import_module("re._parser")
_MAXREPEAT: Final[int] = int(_parser.MAXREPEAT)
_ALPHABET: Final = frozenset(map(chr, range(129)))  # the last one stands for all beyond ASCII
_DEEPEST: Final = 30

_CLASSES: Final[dict[str, frozenset[str]]] = {
    "DIGIT": frozenset(char for char in _ALPHABET if char.isdigit()),
    "SPACE": frozenset(char for char in _ALPHABET if char.isspace()),
    "WORD": frozenset(char for char in _ALPHABET if char.isalnum() or char == "_") | {chr(128)},
}


def look(tree: Tree, report: Report) -> None:
    """Look at every pattern that is known as it stands."""
    for node in tree.nodes:
        if isinstance(node, ast.Call) and node.args and tree.names(node.func, *_FUNCTIONS):
            pattern = tree.folded.text(node.args[0])
            if isinstance(pattern, bytes):
                pattern = pattern.decode("latin-1")
            if pattern is not None:
                _look_at(pattern, node, report)


def _look_at(pattern: str, node: ast.Call, report: Report) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = _parser.parse(pattern)
    except (ValueError, OverflowError, RecursionError, _parser.error) as exc:
        # Its own words would repeat the pattern.
        place = getattr(exc, "pos", None)
        at = "" if place is None else f" at its character {place + 1}"
        report.add("CPX007", node.args[0], f"the pattern does not compile{at}")
        return
    if _explodes(list(parsed)):
        message = "a repetition inside of a repetition can match the same text in many ways"
        report.add("CPX005", node.args[0], message)


def _explodes(items: list[Any], depth: int = 0) -> bool:
    if depth > _DEEPEST:
        return False
    for op, argument in items:
        if _is_repeat(op):
            low, high, body = argument
            del low
            inner = list(body)
            if high == _MAXREPEAT and any(_ambiguous(way) for way in _ways(inner)):
                return True
            if _explodes(inner, depth + 1):
                return True
        elif any(_explodes(below, depth + 1) for below in _below(op, argument)):
            return True
    return False


def _is_repeat(op: Any) -> bool:
    """Tell whether it backtracks; possessive repeats do not."""
    return str(op) in {"MAX_REPEAT", "MIN_REPEAT"}


def _below(op: Any, argument: Any) -> Iterator[list[Any]]:
    match str(op):
        case "SUBPATTERN":
            yield list(argument[3])
        case "BRANCH":
            yield from (list(way) for way in argument[1])
        case "ASSERT" | "ASSERT_NOT":
            yield list(argument[1])
        case "ATOMIC_GROUP":
            yield list(argument)
        case _:
            return


def _ways(items: list[Any]) -> list[list[Any]]:
    """Return the alternatives of a repeated body, its groups opened."""
    flat = _flat(items)
    if len(flat) == 1 and str(flat[0][0]) == "BRANCH":
        return [_flat(list(way)) for way in flat[0][1][1]]
    return [flat]


def _flat(items: list[Any], depth: int = 0) -> list[Any]:
    flat = []
    for op, argument in items:
        if str(op) == "SUBPATTERN" and depth < _DEEPEST:
            flat += _flat(list(argument[3]), depth + 1)
        else:
            flat.append((op, argument))
    return flat


def _ambiguous(items: list[Any]) -> bool:
    """Tell whether an endless repeat in a repeated body has nothing that marks its end."""
    for position, (op, argument) in enumerate(items):
        if not _is_repeat(op) or argument[1] != _MAXREPEAT:
            continue
        begins, _ = _first(list(argument[2]))
        others = items[:position] + items[position + 1 :]
        if not any(_marks(other, begins) for other in others):
            return True
    return False


def _marks(item: Any, begins: frozenset[str]) -> bool:
    """Tell whether an item must be there, and cannot be where one more repetition begins."""
    first, may_be_empty = _first([item])
    return not may_be_empty and not first & begins


def _first(items: list[Any], depth: int = 0) -> tuple[frozenset[str], bool]:
    """Return the characters that a sequence may begin with, and whether it may be empty."""
    found: frozenset[str] = frozenset()
    if depth > _DEEPEST:
        return _ALPHABET, True
    for op, argument in items:
        first, may_be_empty = _first_of(op, argument, depth)
        found |= first
        if not may_be_empty:
            return found, False
    return found, True


def _first_of(op: Any, argument: Any, depth: int) -> tuple[frozenset[str], bool]:
    match str(op):
        case "LITERAL":
            return frozenset({_char(argument)}), False
        case "NOT_LITERAL":
            return _ALPHABET - {_char(argument)}, False
        case "ANY":
            return _ALPHABET, False
        case "IN":
            return _set(argument), False
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            first, may_be_empty = _first(list(argument[2]), depth + 1)
            return first, may_be_empty or argument[0] == 0
        case "SUBPATTERN":
            return _first(list(argument[3]), depth + 1)
        case "BRANCH":
            ways = [_first(list(way), depth + 1) for way in argument[1]]
            return frozenset().union(*(first for first, _ in ways)), any(e for _, e in ways)
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return frozenset(), True
        case _:
            return _ALPHABET, True


def _set(items: list[Any]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    negated = False
    for op, argument in items:
        match str(op):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found |= {_char(argument)}
            case "RANGE":
                low, high = argument
                found |= {_char(code) for code in range(low, min(high, 128) + 1)}
                found |= {chr(128)} if high >= 128 else set()
            case "CATEGORY":
                name = str(argument).removeprefix("CATEGORY_")
                known = _CLASSES.get(name.removeprefix("NOT_"), _ALPHABET)
                found |= _ALPHABET - known if name.startswith("NOT_") else known
            case _:
                return _ALPHABET
    return _ALPHABET - found if negated else found


def _char(code: int) -> str:
    return chr(min(code, 128))
