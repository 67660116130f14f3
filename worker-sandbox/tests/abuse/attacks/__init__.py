"""The attacks, one module per family; each has a table `CASES`."""

from __future__ import annotations

from abuse.attacks import (
    cpu,
    ends,
    filesystem,
    frames,
    kernel,
    memory,
    network,
    processes,
    protocol,
    runner,
    values,
)

FAMILIES = (
    *(cpu, memory, processes, filesystem, network, kernel, protocol, runner),
    *(frames, values, ends),
)
CASES = [case for family in FAMILIES for case in family.CASES]
