"""The terminal: colours where there is one, plain lines where there is none."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

COLOURS: Final[Mapping[str, str]] = {
    "PENDING": "33",
    "IN_PROGRESS": "36",
    "SUCCESS": "32",
    "FAILED": "31",
    "CANCELLED": "35",
    "bold": "1",
    "dim": "2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """Writes lines and parts of lines, at once."""

    colours: bool

    @classmethod
    def of_terminal(cls) -> Screen:
        """Coloured when standard output is a terminal and NO_COLOR is not set."""
        return cls(colours=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

    def line(self, text: str = "") -> None:
        """Write a line, or end the one that was begun."""
        print(text, flush=True)

    def part(self, text: str) -> None:
        """Write a part of a line."""
        print(text, end="", flush=True)

    def paint(self, text: str, colour: str) -> str:
        """Give the text a colour, by its name or by the status that it stands for."""
        return f"\033[{COLOURS[colour]}m{text}\033[0m" if self.colours else text

    def status(self, status: str) -> str:
        """A status in its colour."""
        return self.paint(status, status)

    def audit(self, entry: Mapping[str, Any]) -> None:
        """One line of a trail."""
        move = f"{entry['from_status'] or '-'} -> {entry['to_status'] or '-'}"
        detail = {key: value for key, value in (entry["detail"] or {}).items() if value is not None}
        cells = (entry["at"][11:23], f"v{entry['version']}", f"{move:<25}", entry["event"])
        shown = f"{'  '.join(cells)} by {entry['actor']}"
        if detail:
            shown += "  " + json.dumps(detail, ensure_ascii=False, default=str)[:160]
        self.line(f"      {self.paint(shown, 'dim')}")
