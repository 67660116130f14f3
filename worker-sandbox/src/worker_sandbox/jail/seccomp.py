"""The filter of system calls: an allow-list, assembled by us once and installed in every jail.

seccomp(2), linux/seccomp.h, linux/bpf_common.h. The program is a tree over ranges of numbers, not a
list: the kernel walks it for every known number each time that it is installed. All comparisons are
of the low 32 bits of an argument, because that is what the kernel itself looks at.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from worker_sandbox.jail import kernel
from worker_sandbox.jail.kernel import Call
from worker_sandbox.jail.syscalls import ALLOWED, CHECKED, NOTHING, NUMBERS, OF_ANY_FILE, REFUSED

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x05, 0x06
_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_ERRNO: Final = 0x0005_0000
#: Error number 0: the call is not made, and gives back 0.
_SUCCEED: Final = _ERRNO
_REFUSE: Final = _ERRNO | errno.EPERM
_AGAIN: Final = _ERRNO | errno.EAGAIN
_UNKNOWN: Final = _ERRNO | errno.ENOSYS
_AUDIT_ARCH: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32_BIT: Final = 0x4000_0000

_NAMESPACES_OF_CLONE: Final = 0x7E02_0080
_PROT_WRITE, _PROT_EXEC, _MAP_ANONYMOUS, _MAP_HUGETLB = 0x2, 0x4, 0x20, 0x4_0000

#: fcntl(2): duplicates and flags. No leases, no signals, no sizes of pipes.
_FCNTL: Final = (0, 1, 2, 3, 4, 1030)
#: F_SETLK and F_SETLKW. No lock is taken, for the root's files are the same in every jail; but one
#: process alone always gets the lock that it asks for, so that is what it is told. SQLite asks.
_FCNTL_OF_LOCKS: Final = (6, 7)
#: futex(2): wait, wake, requeue and their kin, all within one process (FUTEX_PRIVATE_FLAG), waits
#: by either clock. A futex in a page of the library would be one that all jails share.
_FUTEX: Final = (*(128 | operation for operation in (0, 1, 3, 4, 5, 9, 10)), 384, 393)
#: pthread_join(3) waits for a thread by a shared futex, since it is the kernel that wakes it. It is
#: told that the thread moved on, and looks again.
_FUTEX_OF_JOIN: Final = (0, 9, 256, 265)
#: ioctl(2): TCGETS (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
_IOCTL: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
#: madvise(2): how one's own memory will be used; nothing that pushes out what others have mapped.
_MADVISE: Final = (0, 1, 2, 3, 4, 8, 14, 15, 16, 17)
#: prctl(2): names of threads and of memory, and questions.
_PRCTL: Final = (2, 3, 15, 16, 21, 23, 39, 0x5356_4D41)

#: The process id of every job in its own pid namespace; elsewhere no signal may be sent at all.
_OWN_PID: Final = 1

Code = list[tuple[int, int, int, int]]


def assemble(machine: str, *, own_pid: bool, own_root: bool) -> bytes:
    """The filter for an architecture; raises KeyError for one that we do not know."""
    numbers = NUMBERS[machine]
    leaves: dict[int, Code] = {}
    for names, action in ((ALLOWED, _ALLOW), (NOTHING, _SUCCEED), (REFUSED, _REFUSE)):
        leaves.update((numbers[name], _give(action)) for name in names if name in numbers)
    checks = _checks()
    leaves.update((numbers[name], checks[name]) for name in CHECKED)
    if not own_pid:
        leaves[numbers["tgkill"]] = _give(_REFUSE)
        leaves.update((numbers[name], _OWN_CLOCKS) for name in _OF_CLOCKS)
    if not own_root:
        leaves.update((numbers[name], _give(_SUCCEED)) for name in OF_ANY_FILE if name in numbers)

    code: Code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _AUDIT_ARCH[machine]), *_give(_KILL)]
    code.append((_LOAD, 0, 0, 0))
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32_BIT), *_give(_KILL)]
    code += _tree(_ranges(leaves))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def tape(program: bytes) -> list[Call]:
    """Filter a jail from now on; no_new_privs must be set. Nothing may follow that needs more."""
    header = struct.pack("=HxxxxxxQ", len(program) // 8, kernel.address(program))
    where = kernel.address(header)
    return [kernel.planned("seccomp", "prctl", _PR_SET_SECCOMP, _MODE_FILTER, where)]


_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2


def _checks() -> dict[str, Code]:
    return {
        "clone": [
            _argument(0),
            (_AND, 0, 0, kernel.CLONE_THREAD | _NAMESPACES_OF_CLONE),
            *_only(kernel.CLONE_THREAD),
        ],
        "fcntl": [_argument(1), *_sort((_FCNTL, _ALLOW), (_FCNTL_OF_LOCKS, _SUCCEED))],
        "futex": [_argument(1), *_sort((_FUTEX, _ALLOW), (_FUTEX_OF_JOIN, _AGAIN))],
        "ioctl": [_argument(1), *_only(*_IOCTL)],
        "madvise": [_argument(2), *_only(*_MADVISE)],
        "prctl": [_argument(0), *_only(*_PRCTL)],
        "prlimit64": [_argument(0), *_only(0)],
        "tgkill": [_argument(0), *_only(_OWN_PID)],
        # Memory that was written is never executed; libraries are mapped from the read-only root.
        "mprotect": [_argument(2), (_ANY_BIT, 0, 1, _PROT_EXEC), *_give(_REFUSE), *_give(_ALLOW)],
        "mmap": [
            _argument(3),
            (_ANY_BIT, 0, 1, _MAP_HUGETLB),
            *_give(_REFUSE),
            _argument(2),
            (_ANY_BIT, 1, 0, _PROT_EXEC),
            *_give(_ALLOW),
            (_ANY_BIT, 3, 0, _PROT_WRITE),
            _argument(3),
            (_ANY_BIT, 1, 0, _MAP_ANONYMOUS),
            *_give(_ALLOW),
            *_give(_REFUSE),
        ],
    }


def _argument(index: int) -> tuple[int, int, int, int]:
    return (_LOAD, 0, 0, 16 + 8 * index)


def _give(action: int) -> Code:
    return [(_RETURN, 0, 0, action)]


def _only(*values: int) -> Code:
    """Allow when the loaded value is one of these."""
    return _sort((values, _ALLOW))


def _sort(*groups: tuple[tuple[int, ...], int]) -> Code:
    """Give what belongs to the group that the loaded value is in; refuse when it is in none."""
    known = [(value, behind) for behind, (values, _) in enumerate(groups) for value in values]
    count = len(known)
    tests = [
        (_EQUAL, count - position + behind, 0, value)
        for position, (value, behind) in enumerate(known)
    ]
    return [*tests, *_give(_REFUSE), *(give for _, action in groups for give in _give(action))]


#: A clock with a negative number is the processor time of a process or thread, anybody's: where a
#: jail has the host's pids, one jail could see by it how much another works.
_OF_CLOCKS: Final = ("clock_gettime", "clock_getres", "clock_nanosleep")
_OWN_CLOCKS: Final[Code] = [
    _argument(0),
    (_ANY_BIT, 0, 1, 0x8000_0000),
    *_give(_REFUSE),
    *_give(_ALLOW),
]


def _ranges(leaves: dict[int, Code]) -> list[tuple[int, Code]]:
    """Where each run of numbers with the same answer begins."""
    unknown = _give(_UNKNOWN)
    runs: list[tuple[int, Code]] = []
    for number in range(max(leaves) + 2):
        leaf = leaves.get(number, unknown)
        if not runs or runs[-1][1] != leaf:
            runs.append((number, leaf))
    return runs


def _tree(runs: list[tuple[int, Code]]) -> Code:
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    below, above = _tree(runs[:middle]), _tree(runs[middle:])
    border = runs[middle][0]
    if len(below) <= 0xFF:
        return [(_AT_LEAST, len(below), 0, border), *below, *above]
    return [(_AT_LEAST, 0, 1, border), (_JUMP, 0, 0, len(below)), *below, *above]
