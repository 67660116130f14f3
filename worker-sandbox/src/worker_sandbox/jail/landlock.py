"""A second wall around files, TCP, abstract sockets and signals; landlock(7), linux/landlock.h.

It needs no privilege and no namespace, and holds even where a mount went wrong.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
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


def ruleset(abi: int, *, read: Iterable[str], work: Iterable[str], write: Iterable[str]) -> int:
    """A descriptor of the rules: read below these, work below those, write to a few files."""
    known = (1 << _RIGHTS.get(abi, _RIGHTS_SINCE_5)) - 1
    attributes = struct.pack("=QQQ", known, _TCP, _SCOPES)
    attributes = attributes[: 8 if abi < 4 else 16 if abi < 6 else 24]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    rules = kernel.call("landlock_create_ruleset", ctypes.addressof(buffer), len(attributes), 0)
    for paths, rights in ((read, _READ), (work, _WORK), (write, _READ | _WRITE_FILE | _TRUNCATE)):
        for path in paths:
            _allow(rules, path, rights & known)
    return rules


def tape(rules: int, abi: int) -> list[Call]:
    """Hold a jail to the rules; no_new_privs must be set."""
    quiet = _QUIET if abi >= 7 else 0
    return [kernel.planned("landlock", "landlock_restrict_self", rules, quiet)]


def _allow(rules: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        buffer = ctypes.create_string_buffer(rule, len(rule))
        kernel.call("landlock_add_rule", rules, _PATH_BENEATH, ctypes.addressof(buffer), 0)
    finally:
        os.close(descriptor)
