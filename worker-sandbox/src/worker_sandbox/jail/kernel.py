"""The kernel's calls that Python 3.11 does not offer, through ctypes.

PyDLL keeps the GIL: a call is as cheap as can be, and a fork happens with the interpreter whole.
Numbers: asm/unistd_64.h and asm-generic/unistd.h; meanings: section 2 of the Linux man-pages.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from typing import Final, NamedTuple

from worker_sandbox.jail.syscalls import NUMBERS

_libc: Final = ctypes.PyDLL(None, use_errno=True)
#: The bare call, of a number and six arguments; what a fresh fork uses and nothing else.
raw: Final = _libc.syscall
raw.argtypes = [ctypes.c_long] * 7
raw.restype = ctypes.c_long

MACHINE: Final = os.uname().machine
#: The numbers of this machine's calls by name; empty for an architecture that we do not know.
NUMBER: Final = NUMBERS.get(MACHINE, {})

#: From here on are the descriptors that jails do not get.
_HIGH: Final = 64

#: sched.h
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWCGROUP: Final = 0x0200_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000
CLONE_THREAD: Final = 0x0001_0000
_CLONE_PIDFD: Final = 0x0000_1000
_SIGCHLD: Final = 17


class Call(NamedTuple):
    """One system call of a jail's tape: what it is for, what to call, and what must come back."""

    step: str
    arguments: tuple[int, int, int, int, int, int, int]
    #: None takes everything but an error.
    wanted: int | None = None


def planned(step: str, name: str, *arguments: int, wanted: int | None = None) -> Call:
    """A call to be made later, in each jail."""
    one, two, three, four, five, six = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    return Call(step, (NUMBER[name], one, two, three, four, five, six), wanted)


_kept: list[ctypes.Array[ctypes.c_char]] = []


def address(data: bytes | str) -> int:
    """Where these bytes lie, ended by a NUL, for as long as this process lives."""
    data = data.encode() if isinstance(data, str) else data
    buffer = ctypes.create_string_buffer(data)
    _kept.append(buffer)
    return ctypes.addressof(buffer)


def call(name: str, *arguments: int) -> int:
    """Make one system call; raises OSError as the os module would."""
    result: int = raw(NUMBER[name], *arguments, *(0,) * (6 - len(arguments)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)
    return result


def high(descriptor: int) -> int:
    """Move a descriptor of ours out of the way of those of the jails."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    os.close(descriptor)
    return moved


def errno_text() -> str:
    """What the last call of this process failed with."""
    return os.strerror(ctypes.get_errno())


def fork(flags: int) -> tuple[int, int]:
    """Fork into the namespaces of `flags`: (0, -1) in the child, (pid, pidfd) in the parent.

    It is clone(2) without a stack: the job becomes pid 1 of its pid namespace by one fork, where
    unshare(2) would need two. The interpreter is not told: it has one thread, holds no lock, and
    its own preparations for a fork would cost each jail a millisecond. What they would have done
    for the user's code, a new seed of `random`, inside.py does.
    """
    pidfd = ctypes.c_int(-1)
    pid = call("clone", flags | _CLONE_PIDFD | _SIGCHLD, 0, ctypes.addressof(pidfd))
    return pid, pidfd.value
