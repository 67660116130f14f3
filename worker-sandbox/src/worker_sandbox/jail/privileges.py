"""Giving up every privilege for good; capabilities(7), prctl(2), user_namespaces(7)."""

from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress
from typing import Final

from worker_sandbox.jail import kernel
from worker_sandbox.jail.kernel import Call

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_AMBIENT_CLEAR_ALL: Final = 4
#: noroot, no_setuid_fixup, no keep_caps, no_cap_ambient_raise; each locked.
_SECUREBITS: Final = 0b1110_1111
_VERSION_3: Final = 0x2008_0522
_MOST: Final = 64


def follow_parent() -> list[Call]:
    """Have the kernel kill the jail when its zygote ends."""
    return [kernel.planned("parent", "prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)]


def drop_capabilities() -> list[Call]:
    """Empty all five sets of capabilities; nothing can fill them again."""
    calls = [("prctl", (_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL))]
    calls += [("prctl", (_PR_CAPBSET_DROP, number)) for number in range(_count())]
    calls += [("prctl", (_PR_SET_SECUREBITS, _SECUREBITS)), ("capset", _empty_sets())]
    return [kernel.planned("capabilities", name, *arguments) for name, arguments in calls]


def no_new_privileges() -> list[Call]:
    """From now on no execve(2) gives a privilege; Landlock and seccomp ask for this."""
    return [kernel.planned("no_new_privs", "prctl", _PR_SET_NO_NEW_PRIVS, 1)]


def undumpable() -> list[Call]:
    """No core, and no tracing by others of the same user."""
    return [kernel.planned("undumpable", "prctl", _PR_SET_DUMPABLE, 0)]


def become(uid: int) -> None:
    """Change the zygote from root to an unprivileged user, for good."""
    with suppress(PermissionError):  # a root that may change users and no more: see CAP_SETPCAP
        for number in range(_count()):
            kernel.call("prctl", _PR_CAPBSET_DROP, number)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # The change made it undumpable; its jails have to write their own maps of ids.
    kernel.call("prctl", _PR_SET_DUMPABLE, 1)


def empty_own_sets() -> None:
    """Empty the zygote's effective, permitted and inheritable capabilities."""
    kernel.call("capset", *_empty_sets())


def _empty_sets() -> tuple[int, int]:
    return kernel.address(struct.pack("=Ii", _VERSION_3, 0)), kernel.address(bytes(24))


def _count() -> int:
    """How many capabilities this kernel knows."""
    for number in range(_MOST):
        try:
            kernel.call("prctl", _PR_CAPBSET_READ, number)
        except OSError:
            return number
    return _MOST
