"""Processor time of groups of processes: it holds still where rates follow the noise around."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")

#: Processor seconds by the name of a component.
Spent = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    pid: int
    parent: int
    #: Its own, and that of the children that it has buried.
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Reads what each component has used; a component is a process with all its descendants.

    PostgreSQL is told apart by the role that a backend serves, since it works for everybody.
    """

    components: Mapping[str, int]
    postmaster: int
    roles: Mapping[str, str]

    def read(self) -> Spent:
        """What every component has used so far."""
        processes = _processes()
        spent = {name: _tree(processes, pid) for name, pid in self.components.items()}
        backends = dict.fromkeys(self.roles, 0.0)
        for process in processes.values():
            if process.parent == self.postmaster:
                name = self._served_by(process.pid)
                if name is not None:
                    backends[name] += process.seconds
        total = _tree(processes, self.postmaster)
        rest = {"postgres, the rest": total - sum(backends.values())}
        return spent | {f"postgres for {name}": used for name, used in backends.items()} | rest

    def _served_by(self, pid: int) -> str | None:
        try:
            title = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return None
        return next((name for name, role in self.roles.items() if f" {role} " in title), None)


def per_unit(before: Spent, after: Spent, units: float) -> Spent:
    """Microseconds a unit of work, by component; what used nothing is left out."""
    used = {name: (after[name] - before.get(name, 0.0)) / units * 1e6 for name in after}
    return {name: round(micros, 1) for name, micros in used.items() if micros >= 0.1}


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            ticks = sum(int(field) for field in fields[11:15])
            pid = int(entry.name)
            found[pid] = _Process(pid=pid, parent=int(fields[1]), seconds=ticks / _TICK)
    return found


def _tree(processes: Mapping[int, _Process], root: int) -> float:
    members, seconds = {root}, 0.0
    for pid in sorted(processes, key=lambda pid: _depth(processes, pid)):
        process = processes[pid]
        if pid == root or process.parent in members:
            members.add(pid)
            seconds += process.seconds
    return seconds


def _depth(processes: Mapping[int, _Process], pid: int) -> int:
    depth = 0
    while pid in processes and depth < 64:
        pid, depth = processes[pid].parent, depth + 1
    return depth
