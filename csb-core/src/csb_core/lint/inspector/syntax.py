"""SYN: that it is Python at all, and that its text says what it seems to say."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import Final

from .report import Report

#: Characters that change the order in which a text is shown, or that are not shown at all.
_HIDDEN: Final = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\U000e0000-\U000e007f]"
)

_COOKIE: Final = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)
_UTF8: Final = {"utf-8", "utf8", "utf_8", "utf-8-sig"}


def parse(report: Report) -> ast.Module | None:
    """Return the tree, None when the source is refused; compiles it too, which runs nothing."""
    _look_at_text(report)
    try:
        tree = ast.parse(report.source)
    except SyntaxError as exc:
        report.add("SYN001", (max(exc.lineno or 1, 1), max(exc.offset or 1, 1)), _said(exc))
        return None
    except ValueError as exc:
        report.add("SYN001", None, str(exc))
        return None
    except (RecursionError, MemoryError):
        report.add("SYN002", None, "the source nests deeper than the parser can follow")
        return None

    _compile(tree, report)
    return tree


def _compile(tree: ast.Module, report: Report) -> None:
    """Find what only the compiler refuses: a `return` outside of functions, a name twice."""
    try:
        compile(tree, "<util>", "exec", dont_inherit=True)
    except SyntaxError as exc:
        # Unlike the parser, the compiler has no text to count characters in: it counts bytes.
        place = report.counted(max(exc.lineno or 1, 1), max((exc.offset or 1) - 1, 0))
        report.add("SYN001", place, _said(exc))
    except ValueError as exc:
        report.add("SYN001", None, str(exc))
    except (RecursionError, MemoryError):
        report.add("SYN002", None, "the source nests deeper than the compiler can follow")


def _said(exc: SyntaxError) -> str:
    kind = {"IndentationError": "indentation", "TabError": "indentation"}
    return f"{kind.get(type(exc).__name__, 'syntax')}: {(exc.msg or 'invalid syntax')[:200]}"


def _look_at_text(report: Report) -> None:
    for hidden in _HIDDEN.finditer(report.source):
        character = f"U+{ord(hidden[0]):04X}"
        report.add("SYN004", report.at(hidden.start()), f"the invisible character {character}")
    for number, line in enumerate(report.lines[:2], 1):
        cookie = _COOKIE.match(line)
        if cookie and cookie[1].lower() not in _UTF8:
            message = "the source is read as UTF-8, whatever encoding a comment declares"
            report.add("SYN003", (number, cookie.start(1) + 1), message)
    if not report.source.isascii():
        _look_at_identifiers(report)


def _look_at_identifiers(report: Report) -> None:
    try:
        for token in tokenize.generate_tokens(io.StringIO(report.source).readline):
            if token.type == tokenize.NAME and not token.string.isascii():
                line, col = token.start
                message = "an identifier that is not ASCII may read as another one"
                report.add("SYN005", (line, col + 1), message)
    except (SyntaxError, tokenize.TokenError):
        return  # the parser says it better
