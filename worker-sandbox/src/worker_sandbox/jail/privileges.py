"""Giving up every privilege for good; capabilities(7), prctl(2)."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

from worker_sandbox.jail import kernel

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_AMBIENT_CLEAR_ALL: Final = 4
#: noroot, no_setuid_fixup, no keep_caps, no_cap_ambient_raise; each locked.
_SECUREBITS: Final = 0b1110_1111
_CAPABILITIES_VERSION_3: Final = 0x2008_0522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become(uid: int) -> None:
    """Change from root to an unprivileged user, for good, and stay able to write one's own maps."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(_PR_SET_DUMPABLE, 1)


def drop_capabilities() -> None:
    """Empty all five sets of capabilities; nothing can fill them again."""
    kernel.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    for capability in range(_capabilities()):
        kernel.prctl(_PR_CAPBSET_DROP, capability)
    kernel.prctl(_PR_SET_SECUREBITS, _SECUREBITS)
    empty_capabilities()


def empty_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets."""
    header = _Header(_CAPABILITIES_VERSION_3, 0)
    kernel.capset(header, (ctypes.c_uint32 * 6)())


def no_new_privileges() -> None:
    """From now on no execve(2) gives a privilege; what Landlock and seccomp ask for."""
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def undumpable() -> None:
    """No core, and no tracing by others of the same user."""
    kernel.prctl(_PR_SET_DUMPABLE, 0)


_known: list[int] = []


def count_capabilities() -> int:
    """Count once what this kernel knows, so that no jail has to."""
    _known[:] = [_capabilities()]
    return _known[0]


def _capabilities() -> int:
    if _known:
        return _known[0]
    count = 0
    while count < 64:
        try:
            kernel.prctl(_PR_CAPBSET_READ, count)
        except OSError:
            break
        count += 1
    return count


_PR_CAPBSET_READ: Final = 23
