"""What a worker has in the machine: to be the same before a case and after it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LITTERED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/", ".", "~")
# The library's own memory grows and shrinks a little with every call.
RSS_SLACK_KB = 48 << 10
SAME_TIMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that could be left behind; every field but `rss_kb` has to come back as it was."""

    processes: int  # descendants, the waiting jails among them
    dead: int  # of these, dead and not reaped
    threads: int
    descriptors: int
    theirs: int  # descriptors of the descendants
    namespaces: int  # that the descendants live in
    mounts: frozenset[str]  # of the kinds that a jail is made of; others may mount what they like
    cgroups: int
    litter: tuple[str, ...]  # files and shared memory that bear the mark of a case
    devices: tuple[tuple[str, int, int, int], ...]
    library: tuple[int, ...]  # when the folders of Python's library were last written
    hostname: str
    rss_kb: int

    def differences(self, before: Snapshot) -> dict[str, tuple[object, object]]:
        """Name what is not as it was: before, and now."""
        changed = {
            field.name: (getattr(before, field.name), getattr(self, field.name))
            for field in fields(self)
            if field.name not in ("rss_kb", "mounts")
            and getattr(before, field.name) != getattr(self, field.name)
        }
        if self.mounts - before.mounts:
            changed["mounts"] = (0, sorted(self.mounts - before.mounts))
        if self.rss_kb > before.rss_kb * 1.05 + RSS_SLACK_KB:
            changed["rss_kb"] = (before.rss_kb, self.rss_kb)
        return changed


def take(*, marker: str, key: int) -> Snapshot:
    """Look at this process, at its descendants, and at the machine."""
    family = descendants(os.getpid())
    return Snapshot(
        processes=len(family),
        dead=sum(state(pid) == "Z" for pid in family),
        threads=threading.active_count(),
        descriptors=_descriptors("self"),
        theirs=sum(_descriptors(pid) for pid in family),
        namespaces=len({name for pid in family for name in _namespaces(pid)}),
        mounts=_mounts(marker),
        cgroups=_cgroups(),
        litter=tuple(sorted({*_litter(marker), *_keys(key)})),
        devices=_devices(),
        library=_library(),
        hostname=os.uname().nodename,
        rss_kb=rss_kb(),
    )


def at_rest(*, marker: str, key: int) -> Snapshot:
    """What stays the same for a while: nothing is being prepared, or going, any more."""
    seen = [take(marker=marker, key=key)]
    while len(seen) < SAME_TIMES:
        time.sleep(0.1)
        reap_orphans()
        now = take(marker=marker, key=key)
        seen = [*seen, now] if not now.differences(seen[-1]) else [now]
    return seen[-1]


def reap_orphans() -> None:
    """Do what init does: bury the dead of a pid namespace whose own parent died before them."""
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            born_apart = len(status.partition("NSpid:")[2].split("\n")[0].split()) > 1
            ours = f"PPid:\t{os.getpid()}\n" in status
            if born_apart and ours and state(pid) == "Z":
                os.waitpid(pid, os.WNOHANG)


def descendants(pid: int) -> set[int]:
    """Every process that came of this one and has not left it."""
    children: dict[int, set[int]] = defaultdict(set)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children[int(stat[1])].add(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = children[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _stat(pid: int) -> list[str]:
    """State, parent and the rest of /proc/PID/stat; empty when the process is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def state(pid: int) -> str:
    """R, S, Z and so on; empty when there is no such process."""
    return (_stat(pid) or [""])[0]


def cpu_ticks(pid: int) -> int:
    """What it has used of the processors, in hundredths of a second."""
    stat = _stat(pid)
    return int(stat[11]) + int(stat[12]) if stat else 0


def _descriptors(pid: int | str) -> int:
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return 0


def _namespaces(pid: int) -> set[str]:
    with contextlib.suppress(OSError):
        return {str(name.readlink()) for name in Path(f"/proc/{pid}/ns").iterdir()}
    return set()


def _mounts(marker: str) -> frozenset[str]:
    marks = (marker, str(Path(os.__file__).parent), " - tmpfs root ", " - tmpfs scratch ")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return frozenset(line for line in lines if any(mark in line for mark in marks))


def _cgroups() -> int:
    """How many there are in those that bear this worker's number, themselves included."""
    own = f"-{os.getpid()}-"
    folders = {folder for folder, _, _ in os.walk(CGROUPS) if own in folder}
    return len(folders)


def _litter(marker: str) -> set[str]:
    found = set()
    for place in {*LITTERED, tempfile.gettempdir()}:
        with contextlib.suppress(OSError):
            files = Path(place).expanduser().iterdir()
            found |= {str(file) for file in files if marker in file.name}
    return found


def _keys(key: int) -> set[str]:
    """System V's shared memory, semaphores and queues with the key of the cases."""
    found = set()
    for kind in ("shm", "sem", "msg"):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
            found |= {f"{kind} {key}" for line in lines if int(line.split()[0]) == key}
    return found


def _devices() -> tuple[tuple[str, int, int, int], ...]:
    stats = [(name, Path("/dev", name)) for name in DEVICES]
    return tuple(
        (name, stat.st_mode, stat.st_uid, stat.st_gid)
        for name, path in stats
        if path.exists() and (stat := path.stat())
    )


def _library() -> tuple[int, ...]:
    folders = {Path(os.__file__).parent, Path(os.__file__).parent / "json"}
    return tuple(folder.stat().st_mtime_ns for folder in sorted(folders))


def rss_kb() -> int:
    """Resident memory of this process, without what the C library keeps free for later."""
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
