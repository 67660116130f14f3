"""What a case is: hostile code, how it may end inside, and how it succeeds outside."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abuse.outside import Ending
from worker_sandbox.job import ExitReason, Job, Limits, Run

PROBE = Path(__file__).with_name("probe.py").read_text()

Check = Callable[[Run], None]
Control = Callable[[Ending], None]

#: What the tier `landlock` does not hold, as docs/sandbox.md says, or holds in another way.
NAMESPACES_ONLY = {
    "threads-without-number": "threads are counted by a control group or not at all",
    "poison-the-library": "utime and chmod succeed and do nothing",
    "spoil-the-devices": "utime and chmod succeed and do nothing",
    "everything-there-is": "the host's root cannot be listed",
    "a-folder-in-a-folder": "depth in the scratch directory is capped",
    "run-what-one-wrote": "a file of the scratch directory may be mapped to be executed",
    "name-the-machine": "the host's name is told",
    "files-without-a-name-that-add-up": "what is deleted and held open is not counted",
}

LIMITS = Limits(timeout_seconds=10.0, memory_limit_mb=128, cpu_limit=1.0)
SHORT = Limits(timeout_seconds=1.0, memory_limit_mb=128, cpu_limit=1.0)


def nothing(_: object) -> None:
    """Ask for no more than what every case is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack. `denied` names the attempts that fail inside and succeed outside."""

    name: str
    code: str
    denied: tuple[str, ...] = ()
    ends: tuple[ExitReason, ...] = ("ok",)
    inside: Check = nothing
    outside: Control = nothing
    limits: Limits = LIMITS
    given: Mapping[str, Any] = field(default_factory=dict)
    given_outside: Mapping[str, Any] = field(default_factory=dict)
    as_root: bool = False  # the control succeeds only for root
    apart: bool = False  # the control is kept in namespaces of its own: it would hurt the machine
    bare: bool = False  # the code is handed over as it is, without the probe above it
    patience: float = 20.0  # how long the control may take; one that never ends shows just that

    def __str__(self) -> str:
        return self.name

    @property
    def source(self) -> str:
        """The util as it is handed over."""
        code = textwrap.dedent(self.code)
        return code if self.bare else f"{PROBE}\n{code}"

    def job(self, world: Mapping[str, Any]) -> Job:
        """The execution that is attempted inside."""
        given = {**world, **self.given}
        return Job(kind="script", code=self.source, input=given, limits=self.limits)


def done(evidence: Mapping[str, Any], name: str) -> bool:
    """Tell whether an attempt succeeded; one that was never made is a fault of the case."""
    seen = evidence[name]
    return isinstance(seen, list) and seen[0] == "done"


def got(evidence: Mapping[str, Any], name: str) -> Any:
    """What an attempt that succeeded gave."""
    assert done(evidence, name), f"{name}: {evidence[name]}"
    return evidence[name][1]
