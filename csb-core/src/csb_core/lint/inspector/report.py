"""Collects findings, with places that a person counts: from one, in characters."""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections import Counter
from typing import Final

#: More of one rule is told as one more; the score counts no further either.
MOST_PER_RULE: Final = 40

_LONGEST_NAME: Final = 60
_LINES: Final = re.compile(r"\r\n|\r|\n")

Place = ast.AST | tuple[int, int] | None


class Report:
    """What was found in one source."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines = _LINES.split(source)
        self._starts = [0, *(end.end() for end in _LINES.finditer(source))]
        self.found: list[tuple[str, int, int, str]] = []
        self._counts: Counter[str] = Counter()

    def add(self, rule: str, where: Place, message: str) -> None:
        """Note a finding at a node, or at a line and a column that both count from one."""
        self._counts[rule] += 1
        if self._counts[rule] <= MOST_PER_RULE:
            line, col = self._place(where)
            self.found.append((rule, line, col, message))

    def at(self, offset: int) -> tuple[int, int]:
        """Return the place of a character of the source."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def counted(self, line: int, start: int) -> tuple[int, int]:
        """Return the place of what stands behind so many bytes of a line."""
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        return line, len(text.encode()[:start].decode(errors="ignore")) + 1

    def _place(self, where: Place) -> tuple[int, int]:
        if isinstance(where, tuple):
            return where
        # Nodes count bytes.
        return self.counted(getattr(where, "lineno", 1), getattr(where, "col_offset", 0))


def shown(name: str) -> str:
    """Return a name as a message may repeat it."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
