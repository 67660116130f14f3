"""How the programs of a platform stand, whether or not their supervisor runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from csb_core.local import health, programs
from csb_core.local.layout import Layout
from csb_core.local.memory import Memory
from csb_core.local.programs import Program
from csb_core.local.supervisor import Supervisor

#: The state of a program that answers while no supervisor does.
UNWATCHED: Final = "unwatched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one program stands."""

    name: str
    state: str
    pid: int | None
    port: int
    health: health.Health

    @property
    def well(self) -> bool:
        """Whether it is ready, and somebody there to start it again should it die."""
        return self.health == "ready" and self.state != UNWATCHED


def status(layout: Layout) -> list[Standing]:
    """Ask every program of the platform; none when it was never brought up."""
    if not layout.run.is_dir():
        return []
    states = supervisor_of(layout, Memory(layout.memory)).states()
    return [
        _standing(program, states.get(program.name))
        for program in programs.read(layout.programs).values()
    ]


def _standing(program: Program, known: Mapping[str, Any] | None) -> Standing:
    found = health.of(program)
    otherwise = "stopped" if found == "silent" else UNWATCHED
    return Standing(
        name=program.name,
        state=known["statename"].lower() if known else otherwise,
        pid=(known["pid"] or None) if known else None,
        port=program.port,
        health=found,
    )


def supervisor_of(layout: Layout, memory: Memory) -> Supervisor:
    """The supervisor of this run directory, running or not."""
    port = int(memory.get("port.supervisor") or 0)
    return Supervisor(layout.run, port=port, password=memory.secret("password.supervisor"))


def table(standings: Iterable[Standing]) -> str:
    """The standings as lines under one another, for a terminal."""
    rows = [("PROGRAM", "STATE", "PID", "PORT", "HEALTH")]
    rows += [(s.name, s.state, str(s.pid or "-"), str(s.port), s.health) for s in standings]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
