"""Looks at a source before a process is started for it: whether it is a text that we read."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from csb_core.lint.values import Question

#: Python's own tokenizer gives up at 200; strings may hold brackets, so we are more generous.
DEEPEST: Final = 2000

_STEP: Final = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}

Raw = tuple[str, int, int, str]


def prescan(question: Question) -> Raw | None:
    """Return the one finding that ends the validation here, None when there is none."""
    source = question.source
    try:
        size = len(source.encode())
    except UnicodeEncodeError as exc:
        message = "the source holds half of a surrogate pair, which is no text"
        return ("SYN006", *_place(source, exc.start), message)
    most = question.limits.source_bytes
    if size > most:
        return "SYN007", 1, 1, f"the source has {size} bytes, at most {most} are read"
    if (at := source.find("\0")) >= 0:
        return ("SYN006", *_place(source, at), "the source holds a null character")
    if not source.strip():
        return "SYN001", 1, 1, "the source is empty"
    if _depth(source) > DEEPEST:
        return "SYN002", 1, 1, f"brackets nest deeper than {DEEPEST} levels"
    return None


def _depth(source: str) -> int:
    return max(accumulate(_STEP[char] for char in source if char in _STEP), default=0)


def _place(source: str, at: int) -> tuple[int, int]:
    before = source[:at]
    return before.count("\n") + 1, at - before.rfind("\n")
