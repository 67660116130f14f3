"""What was called, and what it came to; tests count effects here."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

_KEPT = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call. `performed` says that it reached moto, `effect` that it changed something there."""

    at: str
    operation: str
    account: str
    subject: str | None
    policy_arn: str | None
    session: str | None
    status: int
    code: str | None
    fault: str | None
    performed: bool
    effect: bool


class Journal:
    """The calls, oldest first; a bounded number of them is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_KEPT)

    def append(self, entry: Entry) -> None:
        with self._lock:
            self._entries.append(entry)

    def summary(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """Calls and effects by operation, and the calls themselves, of those that match."""
        with self._lock:
            entries = [asdict(entry) for entry in self._entries]
        chosen = [
            entry
            for entry in entries
            if all(str(entry.get(key)) == value for key, value in wanted.items())
        ]
        return {
            "calls": Counter(entry["operation"] for entry in chosen),
            "effects": Counter(entry["operation"] for entry in chosen if entry["effect"]),
            "entries": chosen,
        }

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


def now() -> str:
    """The time of an entry."""
    return datetime.now(UTC).isoformat()
