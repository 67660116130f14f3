"""The attacks, one module per family; each has a table `CASES`."""

from __future__ import annotations

from abuse.attacks import (
    cpu,
    filesystem,
    frames,
    kernel,
    memory,
    network,
    processes,
    protocol,
    runner,
)

FAMILIES = (cpu, memory, processes, filesystem, network, kernel, protocol, runner, frames)
CASES = [case for family in FAMILIES for case in family.CASES]
