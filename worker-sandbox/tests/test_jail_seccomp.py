"""The filter, run by a model of the kernel's machine on both architectures, call by call."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from worker_sandbox.jail import seccomp
from worker_sandbox.jail.syscalls import ALLOWED, CHECKED, NOTHING, NUMBERS, OF_ANY_FILE, REFUSED

ALLOW, KILL, REFUSE, UNKNOWN, AGAIN = 0x7FFF0000, 0x80000000, 0x50001, 0x50026, 0x5000B
SUCCEED = 0x50000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HIGH = 0xDEAD_BEEF << 32


def answer(
    machine: str,
    number: int,
    *arguments: int,
    arch: int | None = None,
    own_pid: bool = True,
    own_root: bool = True,
) -> int:
    """What the filter says; linux/bpf_common.h, of which it uses seven instructions."""
    program = seccomp.assemble(machine, own_pid=own_pid, own_root=own_root)
    data = struct.pack(
        "=IIQ6Q", number, arch or ARCH[machine], 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6]
    )
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        operation, yes, no, operand = code[at]
        at += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                value &= operand
            case 0x05:
                at += operand
            case 0x15:
                at += yes if value == operand else no
            case 0x35:
                at += yes if value >= operand else no
            case 0x45:
                at += yes if value & operand else no
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(operation)


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_every_number_has_the_answer_that_its_name_has(machine: str) -> None:
    names = {number: name for name, number in NUMBERS[machine].items()}
    replies = ((ALLOWED, ALLOW), (NOTHING, SUCCEED), (REFUSED, REFUSE))
    for number in range(600):
        name = names.get(number)
        if name in CHECKED:
            continue
        wanted = next((reply for group, reply in replies if name in group), UNKNOWN)
        assert answer(machine, number) == wanted, (number, name)


def test_no_call_reaches_the_hosts_disk(machine: str) -> None:
    """Also of a file that may only be read: writing back is the whole file system's affair."""
    for name in ("fsync", "fdatasync"):
        assert answer(machine, NUMBERS[machine][name], 3) == SUCCEED
    for number in {"x86_64": (26, 277), "aarch64": (227, 84)}[machine]:  # msync, sync_file_range
        assert answer(machine, number, 3) == UNKNOWN


def test_another_architecture_and_the_x32_calls_kill(machine: str) -> None:
    assert answer(machine, 0, arch=0x40000003) == KILL
    other = ARCH["aarch64" if machine == "x86_64" else "x86_64"]
    assert answer(machine, 0, arch=other) == KILL
    if machine == "x86_64":
        assert answer(machine, 0x40000000) == KILL
        assert answer(machine, 0x40000000 | 520) == KILL
        assert answer(machine, 0xFFFFFFFF) == KILL


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        # What glibc passes for a thread, and for a fork.
        ("clone", (0x3D0F00,), ALLOW),
        ("clone", (0x1200011,), REFUSE),
        ("clone", (17,), REFUSE),
        ("clone", (0x3D0F00 | 0x10000000,), REFUSE),
        ("clone", (0x3D0F00 | 0x20000000,), REFUSE),
        ("clone", (0x3D0F00 | 0x40000000,), REFUSE),
        ("clone", (0x3D0F00 | 0x00020000,), REFUSE),
        ("clone", (HIGH | 17,), REFUSE),
        ("fcntl", (1, 3), ALLOW),
        ("fcntl", (1, 1030), ALLOW),
        ("fcntl", (1, 5), REFUSE),  # F_GETLK
        ("fcntl", (1, 6), SUCCEED),  # F_SETLK: said, and not done
        ("fcntl", (1, 7), SUCCEED),
        ("fcntl", (1, 8), REFUSE),  # F_SETOWN
        ("fcntl", (1, 37), REFUSE),  # F_OFD_SETLK
        ("fcntl", (1, 1024), REFUSE),  # F_SETLEASE
        ("fcntl", (1, 1031), REFUSE),  # F_SETPIPE_SZ
        ("fcntl", (1, HIGH | 6), SUCCEED),
        ("futex", (0, 128), ALLOW),
        ("futex", (0, 129), ALLOW),
        ("futex", (0, 393), ALLOW),
        ("futex", (0, 1), REFUSE),  # FUTEX_WAKE in a page that others have
        ("futex", (0, 0), AGAIN),  # pthread_join
        ("futex", (0, 265), AGAIN),
        ("futex", (0, 134), REFUSE),  # FUTEX_LOCK_PI
        ("futex", (0, HIGH | 1), REFUSE),
        ("ioctl", (1, 0x5401), ALLOW),
        ("ioctl", (1, 0x5412), REFUSE),  # TIOCSTI
        ("ioctl", (1, HIGH | 0x5412), REFUSE),  # CVE-2019-10063
        ("ioctl", (1, 0x541C), REFUSE),  # TIOCLINUX
        ("madvise", (0, 4096, 4), ALLOW),
        ("madvise", (0, 4096, 21), REFUSE),  # MADV_PAGEOUT
        ("madvise", (0, 4096, 100), REFUSE),  # MADV_HWPOISON
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), REFUSE),  # PR_SET_PDEATHSIG
        ("prctl", (4,), REFUSE),  # PR_SET_DUMPABLE
        ("prctl", (22,), REFUSE),  # PR_SET_SECCOMP
        ("prctl", (35,), REFUSE),  # PR_SET_MM
        ("prctl", (47,), REFUSE),  # PR_CAP_AMBIENT
        ("prlimit64", (0, 9), ALLOW),
        ("prlimit64", (1, 9), REFUSE),
        ("tgkill", (1, 1, 6), ALLOW),
        ("tgkill", (2, 2, 9), REFUSE),
        ("mprotect", (0, 4096, 3), ALLOW),
        ("mprotect", (0, 4096, 5), REFUSE),
        ("mprotect", (0, 4096, 7), REFUSE),
        ("mmap", (0, 4096, 3, 0x22), ALLOW),
        ("mmap", (0, 4096, 5, 0x2), ALLOW),  # a library's code, from the read-only root
        ("mmap", (0, 4096, 7, 0x2), REFUSE),
        ("mmap", (0, 4096, 5, 0x22), REFUSE),
        ("mmap", (0, 4096, 4, 0x21), REFUSE),
        ("mmap", (0, 4096, 3, 0x40022), REFUSE),  # huge pages
    ],
)
def test_arguments_decide(machine: str, name: str, arguments: tuple[int, ...], wanted: int) -> None:
    assert answer(machine, NUMBERS[machine][name], *arguments) == wanted


def test_where_the_hosts_root_is_seen_no_mode_or_time_is_changed(machine: str) -> None:
    for name in OF_ANY_FILE & NUMBERS[machine].keys():
        assert answer(machine, NUMBERS[machine][name]) == ALLOW, name
        assert answer(machine, NUMBERS[machine][name], own_root=False) == SUCCEED, name


def test_outside_a_pid_namespace_no_signal_is_sent_at_all() -> None:
    inside, outside = (
        seccomp.assemble("x86_64", own_pid=own, own_root=True) for own in (True, False)
    )
    assert inside != outside


def test_outside_a_pid_namespace_nobody_reads_what_another_process_works(machine: str) -> None:
    for name in ("clock_gettime", "clock_getres", "clock_nanosleep"):
        number = NUMBERS[machine][name]
        for clock in (*range(12), HIGH | 1):
            assert answer(machine, number, clock, own_pid=False) == ALLOW
        for clock in ((~1 << 3 | 2), (~70_000 << 3 | 6), -1):
            for given in (clock & 0xFFFF_FFFF, clock & (1 << 64) - 1):
                assert answer(machine, number, given, own_pid=False) == REFUSE
                assert answer(machine, number, given) == ALLOW


def test_every_name_is_known_and_has_one_answer() -> None:
    known = (ALLOWED, NOTHING, REFUSED, CHECKED)
    assert sum(map(len, known)) == len(set().union(*known))
    every = set().union(*NUMBERS.values())
    assert every >= set().union(*known)
    # What is in the tables without an answer is unknown on purpose.
    assert every - set().union(*known) == {
        "clone3",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
    }


def test_the_filter_is_small_enough_to_be_installed_often(machine: str) -> None:
    assert len(seccomp.assemble(machine, own_pid=True, own_root=True)) // 8 < 400


@pytest.mark.parametrize(
    ("machine", "header", "pattern"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"__NR_(\w+)\s+(\d+)"),
        ("aarch64", "/usr/include/asm-generic/unistd.h", r"__NR(?:3264)?_(\w+)\s+(\d+)"),
    ],
)
def test_the_numbers_are_those_of_the_kernels_headers(
    machine: str, header: str, pattern: str
) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    known = {name: int(number) for name, number in re.findall(pattern, Path(header).read_text())}
    known["newfstatat"] = known.get("newfstatat", known.get("fstatat", 0))

    assert {
        name: number
        for name, number in NUMBERS[machine].items()
        if known.get(name, number) != number
    } == {}
