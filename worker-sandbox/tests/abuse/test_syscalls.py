"""A sweep over every number of a system call: none answers that was not looked at.

The table says what may answer, so that a filter that grows has to be looked at again.
"""

from __future__ import annotations

import platform

import pytest

from abuse import outside
from abuse.arena import Arena
from abuse.case import PROBE
from worker_sandbox.job import Job, Limits

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")

LAST = 600
X32 = 0x40000000

#: These end the process, or only end with it; uretprobe passes every filter, and is a trap
#: outside the kernel's own trampoline.
NOT_TRIED = {60: "exit", 15: "rt_sigreturn", 231: "exit_group", 34: "pause", 335: "uretprobe"}

#: What computing, reading and a scratch folder take. All arguments of these are one's own business.
MAY_ANSWER = {
    0: "read",
    1: "write",
    2: "open",
    3: "close",
    4: "stat",
    5: "fstat",
    6: "lstat",
    7: "poll",
    8: "lseek",
    9: "mmap",
    10: "mprotect",
    11: "munmap",
    12: "brk",
    13: "rt_sigaction",
    14: "rt_sigprocmask",
    16: "ioctl",
    17: "pread64",
    18: "pwrite64",
    19: "readv",
    20: "writev",
    21: "access",
    22: "pipe",
    23: "select",
    24: "sched_yield",
    25: "mremap",
    28: "madvise",
    32: "dup",
    33: "dup2",
    35: "nanosleep",
    36: "getitimer",
    37: "alarm",
    38: "setitimer",
    39: "getpid",
    63: "uname",
    72: "fcntl",
    74: "fsync",
    75: "fdatasync",
    76: "truncate",
    77: "ftruncate",
    79: "getcwd",
    80: "chdir",
    81: "fchdir",
    82: "rename",
    83: "mkdir",
    84: "rmdir",
    85: "creat",
    87: "unlink",
    88: "symlink",
    89: "readlink",
    90: "chmod",
    91: "fchmod",
    95: "umask",
    96: "gettimeofday",
    97: "getrlimit",
    98: "getrusage",
    100: "times",
    102: "getuid",
    104: "getgid",
    107: "geteuid",
    108: "getegid",
    110: "getppid",
    111: "getpgrp",
    115: "getgroups",
    118: "getresuid",
    120: "getresgid",
    121: "getpgid",
    124: "getsid",
    125: "capget",
    127: "rt_sigpending",
    128: "rt_sigtimedwait",
    130: "rt_sigsuspend",
    131: "sigaltstack",
    132: "utime",
    140: "getpriority",
    157: "prctl",
    186: "gettid",
    201: "time",
    202: "futex",
    204: "sched_getaffinity",
    217: "getdents64",
    218: "set_tid_address",
    219: "restart_syscall",
    228: "clock_gettime",
    229: "clock_getres",
    230: "clock_nanosleep",
    234: "tgkill",
    235: "utimes",
    257: "openat",
    258: "mkdirat",
    262: "newfstatat",
    263: "unlinkat",
    264: "renameat",
    266: "symlinkat",
    267: "readlinkat",
    268: "fchmodat",
    269: "faccessat",
    270: "pselect6",
    271: "ppoll",
    273: "set_robust_list",
    280: "utimensat",
    285: "fallocate",
    292: "dup3",
    293: "pipe2",
    295: "preadv",
    296: "pwritev",
    302: "prlimit64",
    309: "getcpu",
    316: "renameat2",
    318: "getrandom",
    332: "statx",
    334: "rseq",
    436: "close_range",
    439: "faccessat2",
    452: "fchmodat2",
    # No filter is asked for this one either; it fails outside the kernel's own trampoline.
    336: "uprobe",
}

SWEEP = f"""
{PROBE}

def main(p):
    import ctypes
    library = libc()
    library.syscall.restype = ctypes.c_long
    answered = {{}}
    for number in range(p["first"], p["last"]):
        if number in p["not"]:
            continue
        os.write(1, b"%d\\n" % number)
        ctypes.set_errno(0)
        result = library.syscall(ctypes.c_long(number | p["bit"]), *[ctypes.c_long(-1)] * 6)
        error = ctypes.get_errno() if result == -1 else 0
        if error not in (1, 38):
            answered[str(number)] = error
    return answered
"""


def swept(arena: Arena, bit: int) -> tuple[dict[int, int], set[int]]:
    """Ask each number with useless arguments: who answered, and who was killed for it."""
    answered: dict[int, int] = {}
    killed: set[int] = set()
    first = 0
    while first < LAST:
        run = arena.run(
            Job(
                kind="script",
                code=SWEEP,
                input={"first": first, "last": LAST, "bit": bit, "not": [*NOT_TRIED]},
                limits=Limits(timeout_seconds=10.0, memory_limit_mb=128, cpu_limit=1.0),
            )
        )
        if run.exit_reason == "ok":
            answered |= {int(number): error for number, error in run.value.items()}
            break
        assert run.exit_reason == "killed", run
        first = int(run.stdout.split()[-1]) + 1
        killed.add(first - 1)
    return answered, killed


def test_no_call_answers_that_nobody_looked_at(arena: Arena) -> None:
    with arena.watched():
        answered, killed = swept(arena, 0)

    assert not answered.keys() - MAY_ANSWER.keys(), "these answer, and nobody has said why"
    assert not killed, "what is not there is ENOSYS: a library then tries something older"
    assert {0, 1, 39} <= answered.keys(), "the sweep swept nothing"


def test_most_calls_answer_outside() -> None:
    """The control: the same sweep, in namespaces of its own, sees the whole kernel."""
    given = {"first": 0, "last": LAST, "bit": 0, "not": [*NOT_TRIED, 57, 58, 435]}
    ending = outside.run(SWEEP, given, apart=True, patience=20)

    answered = {int(number) for number in ending.evidence}
    assert len(answered - MAY_ANSWER.keys()) > 100, sorted(answered)


def test_no_call_of_x32_is_made(arena: Arena) -> None:
    """A number with this bit is another table of calls, on kernels that have it."""
    for number in (0, 39, 57, 59, 101, 520, 547):
        run = arena.run(
            Job(
                kind="script",
                code=SWEEP,
                input={"first": number, "last": number + 1, "bit": X32, "not": []},
                limits=Limits(timeout_seconds=10.0, memory_limit_mb=128, cpu_limit=1.0),
            )
        )
        assert run.exit_reason == "killed" or run.value == {}, run
