"""What a job printed: its end is kept, its length counted."""

from __future__ import annotations

from typing import Final

TAIL: Final = 64 << 10
_MARK: Final = "[... {} bytes before this were cut]\n"


class Prints:
    """One stream of a job; however much comes, it holds no more than twice the tail."""

    def __init__(self) -> None:
        self.total = 0
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """Take what was read."""
        self.total += len(data)
        self._kept += data
        if len(self._kept) > 2 * TAIL:
            del self._kept[:-TAIL]

    def text(self) -> str:
        """The tail as text of at most 64 KiB, and a mark in front when something was cut."""
        text = _storable(bytes(self._kept[-TAIL:]))
        if self.total <= TAIL and len(text.encode()) <= TAIL:
            return text
        room = TAIL - len(_MARK.format(self.total))
        kept = text.encode()[-room:].decode(errors="ignore")
        return _MARK.format(self.total - min(self.total, len(kept.encode()))) + kept


def _storable(data: bytes) -> str:
    return data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
