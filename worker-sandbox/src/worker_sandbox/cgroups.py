"""A control group of its own for each jail, where a writable subtree is really found; cgroups(7).

It counts what an address space does not: scratch files, page tables, all threads together. It is
found by doing, and never required. Version 1 is what some hosts still have; in version 2 our own
group must be delegated, with us in a leaf of it (systemd: `Delegate=yes`, `DelegateSubgroup=`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, Self

from worker_sandbox.jail import cleaner

_PREFIX: Final = "csb-sandbox-"
_CONTROLLERS: Final = ("memory", "pids")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """How a version of the interface names what we use."""

    memory: str
    swap: str
    swap_is_sum: bool
    events: str
    tasks: str = "pids.max"


_V1: Final = _Files(
    memory="memory.limit_in_bytes",
    swap="memory.memsw.limit_in_bytes",
    swap_is_sum=True,
    events="memory.oom_control",
)
_V2: Final = _Files(
    memory="memory.max", swap="memory.swap.max", swap_is_sum=False, events="memory.events"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """The group of one jail: one folder, or one of each controller."""

    files: _Files
    folders: tuple[str, ...]

    def limit_memory(self, most: int) -> None:
        """Cap what its processes, their files in memory and their page tables take together."""
        _write(f"{self.folders[0]}/{self.files.memory}", most)
        with suppress(FileNotFoundError):  # a kernel that does not count swap
            _write(f"{self.folders[0]}/{self.files.swap}", most if self.files.swap_is_sum else 0)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed in it for that cap."""
        with suppress(OSError):
            for line in Path(self.folders[0], self.files.events).read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    return number != "0"
        return False

    def remove(self) -> bool:
        """Remove it; False when a process is in it still."""
        try:
            for folder in self.folders:
                with suppress(FileNotFoundError):
                    os.rmdir(folder)  # noqa: PTH106 - once for each jail: pathlib costs more
        except OSError:
            return False
        return True


@dataclass(slots=True, kw_only=True)
class Leaves:
    """Where this process makes the groups of its jails; all are gone when it is."""

    files: _Files
    parents: tuple[Path, ...]
    _cleaner: subprocess.Popen[bytes]
    _numbers: count[int] = field(default_factory=count, init=False)
    _left: deque[Leaf] = field(default_factory=deque, init=False)

    @classmethod
    def find(cls) -> Self | None:
        """Make a group, a leaf in it, and put limits on that; None where that is not to be had."""
        name = f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        for files, places in _candidates():
            cleaner.clear(_abandoned(places))
            parents = tuple(place / name for place in places)
            try:
                _make(files, parents)
            except OSError:
                cleaner.clear(parents)
                continue
            return cls(files=files, parents=parents, _cleaner=_start_cleaner(parents))
        return None

    def make(self, pid: int, tasks: int) -> Leaf:
        """A leaf with this process in it. Raises OSError."""
        self.tidy()
        number = str(next(self._numbers))
        folders = tuple(f"{parent}/{number}" for parent in self.parents)
        leaf = Leaf(files=self.files, folders=folders)
        try:
            for folder in leaf.folders:
                os.mkdir(folder)  # noqa: PTH102 - as above
                _write(f"{folder}/cgroup.procs", pid)
            _write(f"{leaf.folders[-1]}/{self.files.tasks}", tasks)
        except OSError:
            self.give_back(leaf)
            raise
        return leaf

    def give_back(self, leaf: Leaf) -> None:
        """Remove a leaf, now or when its last process is gone."""
        if not leaf.remove():
            self._left.append(leaf)

    def close(self) -> None:
        """Have everything removed; the jails are gone, or going."""
        self._cleaner.communicate()

    def tidy(self) -> bool:
        """Remove what is empty by now; whether nothing is left. One thread at a time."""
        for _ in range(len(self._left)):
            self.give_back(self._left.popleft())
        return not self._left


def _candidates() -> list[tuple[_Files, tuple[Path, ...]]]:
    """Where our own groups are, in each version that is mounted."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(",") if controllers else ["v2"]:
            groups[name] = path
    found: list[tuple[_Files, tuple[Path, ...]]] = []
    ours = {name: _place(name, path) for name, path in groups.items()}
    unified = ours.get("v2")
    if unified is not None and groups["v2"] != "/":
        found.append((_V2, (unified.parent,)))
    separate = tuple(place for name in _CONTROLLERS if (place := ours.get(name)) is not None)
    if len(separate) == len(_CONTROLLERS):
        found.append((_V1, separate))
    return found


def _abandoned(places: Iterable[Path]) -> Iterator[Path]:
    """What is left of processes that are gone, and whose cleaner was killed too."""
    for place in places:
        for group in place.glob(f"{_PREFIX}*"):
            pid = group.name.removeprefix(_PREFIX).partition("-")[0]
            if not Path("/proc", pid).exists():
                yield group


def _place(controller: str, path: str) -> Path | None:
    """The folder of a group below the mount of its hierarchy; mountinfo in proc(5)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" if controller == "v2" else controller in options.split(","):
            relative = path if root == "/" else path.removeprefix(root)
            return Path(point, relative.lstrip("/"))
    return None


def _make(files: _Files, parents: tuple[Path, ...]) -> None:
    for parent in parents:
        parent.mkdir()
    if files is _V2:
        _write(f"{parents[0]}/cgroup.subtree_control", "+memory +pids")
    probe = Leaf(files=files, folders=tuple(f"{parent}/probe" for parent in parents))
    for folder in probe.folders:
        Path(folder).mkdir()
        if not os.access(f"{folder}/cgroup.procs", os.W_OK):
            raise PermissionError(folder)
    probe.limit_memory(64 << 20)
    _write(f"{probe.folders[-1]}/{files.tasks}", 8)
    probe.remove()


def _write(path: str, value: int | str) -> None:
    """Write a file of the interface; one that is not there is never made."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def _start_cleaner(parents: tuple[Path, ...]) -> subprocess.Popen[bytes]:
    """A process that removes everything when we are gone, however we went."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter and file
        [
            str(Path(sys.executable).resolve()),
            *("-I", "-S", "-E", cleaner.__file__),
            *map(str, parents),
        ],
        stdin=subprocess.PIPE,
        env={},
        cwd="/",
        start_new_session=True,
    )
