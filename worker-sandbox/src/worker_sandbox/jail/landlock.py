"""A second wall around files, TCP, abstract sockets and signals; landlock(7), linux/landlock.h.

It needs no privilege and no namespace, and holds even where a mount went wrong.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from worker_sandbox.jail import kernel
from worker_sandbox.jail.kernel import Call

_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_QUIET: Final = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << n for n in range(6))
_MAKE_DIR, _MAKE_REG, _MAKE_SYM, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 12, 1 << 13, 1 << 14
_READ: Final = _READ_FILE | _READ_DIR
_WORK: Final = (
    _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM
) | (_REFER | _TRUNCATE)

#: What a file, not a directory, can be given.
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
#: ABI -> how many rights on files it knows.
_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_RIGHTS_SINCE_5: Final = 16
_TCP: Final = 0b11
_SCOPES: Final = 0b11


def version() -> int:
    """The ABI that the kernel offers; 0 when it has none, or has it switched off."""
    try:
        return kernel.call("landlock_create_ruleset", 0, 0, _VERSION)
    except OSError:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What all jails may do with files: places, as descriptors of ours, and the rights below."""

    abi: int
    places: tuple[tuple[int, int], ...]


def rules(abi: int, *, read: Iterable[str], work: Iterable[str], write: Iterable[str]) -> Rules:
    """Read below these, work below those, write to a few files. Raises OSError."""
    places = [
        _place(path, rights)
        for paths, rights in (
            (read, _READ),
            (work, _WORK),
            (write, _READ | _WRITE_FILE | _TRUNCATE),
        )
        for path in paths
    ]
    return Rules(abi=abi, places=tuple(places))


def tape(rules: Rules, *, free: int, lent: int | None) -> list[Call]:
    """Hold a jail to the rules, and let it work in what it was lent; no_new_privs must be set.

    `free` is the lowest number that no descriptor has.
    """
    known = (1 << _RIGHTS.get(rules.abi, _RIGHTS_SINCE_5)) - 1
    attributes = struct.pack("=QQQ", known, _TCP, _SCOPES)
    attributes = attributes[: 8 if rules.abi < 4 else 16 if rules.abi < 6 else 24]
    made = (kernel.address(attributes), len(attributes), 0)
    calls = [kernel.planned("landlock", "landlock_create_ruleset", *made, wanted=free)]
    for place, rights in (*rules.places, *(() if lent is None else ((lent, _WORK),))):
        rule = kernel.address(struct.pack("=Qi", rights & known, place))
        calls.append(kernel.planned("landlock", "landlock_add_rule", free, _PATH_BENEATH, rule, 0))
    quiet = _QUIET if rules.abi >= 7 else 0
    return [
        *calls,
        kernel.planned("landlock", "landlock_restrict_self", free, quiet),
        kernel.planned("landlock", "close", free),
    ]


def _place(path: str, rights: int) -> tuple[int, int]:
    descriptor = kernel.high(os.open(path, os.O_PATH | os.O_CLOEXEC))
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _OF_FILES
    return descriptor, rights
