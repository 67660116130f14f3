"""What is wrong with what a caller sent: each fault says where, what, and what to do instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from csb_core.errors import BridgeError

#: Nobody mends more at once, and a hostile body could hold a million.
MOST_FAULTS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: a JSON pointer to the field, a sentence, and a guess at what was meant."""

    pointer: str
    message: str
    hint: str | None = None


class Malformed(BridgeError):
    """The body is no JSON that we read; nothing in it can be pointed at."""

    code = "malformed_json"


class TooDeep(BridgeError):
    """The body nests deeper than anything we ask for."""

    code = "json_too_deep"


class Invalid(BridgeError):
    """The body is JSON, but not what the contract asks for; `faults` names everything at once."""

    code = "invalid_body"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in self.faults))


def pointer(path: Iterable[str | int]) -> str:
    """Return the RFC 6901 pointer of a path."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in path)
