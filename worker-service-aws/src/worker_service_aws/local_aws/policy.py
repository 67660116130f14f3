"""A small, honest evaluator of IAM policy documents; what it does not know, it does not allow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

Document = Mapping[str, Any]
Context = Mapping[str, str]


class Ruling(StrEnum):
    """What documents say about one action on one resource."""

    ALLOWED = "allowed"
    DENIED = "denied"
    NOT_ALLOWED = "not allowed"


def rule(documents: Iterable[Document], action: str, resource: str, context: Context) -> Ruling:
    """Ask the documents together: an explicit deny wins, and without an allow it is a no."""
    ruling = Ruling.NOT_ALLOWED
    for document in documents:
        for statement in listed(document.get("Statement", [])):
            if not _speaks_of(statement, action, resource):
                continue
            denies = statement.get("Effect") == "Deny"
            if not conditions_hold(statement, context, unknown=denies):
                continue
            if denies:
                return Ruling.DENIED
            ruling = Ruling.ALLOWED
    return ruling


def keys_asked(documents: Iterable[Document], action: str, resource: str) -> set[str]:
    """The condition keys on which it hangs what the documents say of the action."""
    return {
        key
        for document in documents
        for statement in listed(document.get("Statement", []))
        if _speaks_of(statement, action, resource)
        for keys in statement.get("Condition", {}).values()
        for key in keys
    }


def _speaks_of(statement: Document, action: str, resource: str) -> bool:
    return _named(statement, "Action", action.lower(), fold=True) and _named(
        statement, "Resource", resource, fold=False
    )


def _named(statement: Document, element: str, value: str, *, fold: bool) -> bool:
    if element in statement:
        return any(
            matches(pattern.lower() if fold else pattern, value)
            for pattern in listed(statement[element])
        )
    inverse = f"Not{element}"
    if inverse in statement:
        return not any(
            matches(pattern.lower() if fold else pattern, value)
            for pattern in listed(statement[inverse])
        )
    return False


def conditions_hold(statement: Document, context: Context, *, unknown: bool) -> bool:
    """Whether every condition holds; an operator that is not known here counts as `unknown`."""
    return all(
        _condition(
            operator, context.get(key), [str(one) for one in listed(wanted)], unknown=unknown
        )
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _condition(operator: str, actual: str | None, wanted: list[str], *, unknown: bool) -> bool:
    name = operator.removesuffix("IfExists")
    negated = "Not" in name
    test = _TESTS.get(name.replace("Not", ""))
    if test is None:
        return unknown
    if actual is None:
        return negated or operator.endswith("IfExists")
    return any(test(one, actual) for one in wanted) != negated


def listed(value: Any) -> list[Any]:
    """IAM writes a single thing without its brackets."""
    return value if isinstance(value, list) else [value]


def matches(pattern: str, value: str) -> bool:
    """IAM's wildcards: `*` for any run of characters, `?` for one."""
    return _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.compile("".join(parts), re.DOTALL)


def _equal(wanted: str, actual: str) -> bool:
    return wanted == actual


def _equal_folded(wanted: str, actual: str) -> bool:
    return wanted.lower() == actual.lower()


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": _equal,
    "StringEqualsIgnoreCase": _equal_folded,
    "StringLike": matches,
    "ArnEquals": matches,
    "ArnLike": matches,
    "Bool": _equal_folded,
}
