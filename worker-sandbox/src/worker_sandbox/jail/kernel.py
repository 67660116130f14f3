"""The kernel's calls that Python 3.11 does not offer, through ctypes.

PyDLL keeps the GIL: a call is as cheap as can be, and a fork happens with the interpreter whole.
Numbers: asm/unistd_64.h and asm-generic/unistd.h; meanings: section 2 of the Linux man-pages.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_libc: Final = ctypes.PyDLL(None, use_errno=True)
_syscall: Final = _libc.syscall
_syscall.argtypes = [ctypes.c_long] * 7
_syscall.restype = ctypes.c_long
_mount: Final = _libc.mount
_mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]

#: sched.h
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWCGROUP: Final = 0x0200_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000
CLONE_PIDFD: Final = 0x0000_1000
CLONE_THREAD: Final = 0x0001_0000

#: The same number on every architecture (all calls added since Linux 5.0).
CLOSE_RANGE: Final = 436
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT_SELF: Final = 446

MACHINE: Final = os.uname().machine
_ARM: Final = MACHINE == "aarch64"
_CLONE: Final = 220 if _ARM else 56
_PIVOT_ROOT: Final = 41 if _ARM else 155
_CAPSET: Final = 91 if _ARM else 126


def call(number: int, *arguments: int) -> int:
    """Make one system call; raises OSError as the os module would."""
    result: int = _syscall(number, *arguments, *(0,) * (6 - len(arguments)))
    return _checked(result)


def prctl(option: int, *arguments: int) -> int:
    """prctl(2); every argument that is not given is 0, as newer options demand."""
    result: int = _libc.prctl(
        ctypes.c_int(option),
        *(ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]),
    )
    return _checked(result)


def mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    """mount(2)."""
    _checked(_mount(_bytes(source), target.encode(), _bytes(kind), flags, _bytes(options)), target)


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(target.encode(), ctypes.c_int(flags)), target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    one, two = ctypes.create_string_buffer(new.encode()), ctypes.create_string_buffer(old.encode())
    call(_PIVOT_ROOT, ctypes.addressof(one), ctypes.addressof(two))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def capset(header: ctypes.Structure, data: ctypes.Array[ctypes.c_uint32]) -> None:
    """capset(2)."""
    call(_CAPSET, ctypes.addressof(header), ctypes.addressof(data))


def close_from(first: int) -> None:
    """Close every descriptor from `first` on, without a list of them."""
    try:
        call(CLOSE_RANGE, first, 0xFFFF_FFFF)
    except OSError:  # before Linux 5.9
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def fork(flags: int) -> tuple[int, int]:
    """fork(2) into the namespaces of `flags`; return (0, -1) in the child, (pid, pidfd) in the parent.

    It is clone(2) without a stack, between the interpreter's own preparations for a fork: the job
    becomes pid 1 of its pid namespace by one fork instead of unshare(2) and two.
    """
    pidfd = ctypes.c_int(-1)
    arguments = (flags | CLONE_PIDFD | _SIGCHLD, 0, ctypes.addressof(pidfd))
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = _syscall(_CLONE, *arguments, 0, 0, 0)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error), "clone")
    return pid, pidfd.value


_SIGCHLD: Final = 17


def _checked(result: int, subject: str | None = None) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), subject)
    return result


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
