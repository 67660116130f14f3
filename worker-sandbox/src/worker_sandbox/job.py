"""What a jail is asked to do, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

Kind = Literal["transformer", "script"]

#: ok: a value. error: the code raised, or its value is no JSON. timeout: wall clock or processor
#: budget. memory: more than the limit. output: value or prints past their caps. killed: died by a
#: signal that was not ours. rejected: the job cannot be run, or the jail broke the protocol.
#: internal: the sandbox failed; the only reason that is worth another try.
ExitReason = Literal["ok", "error", "timeout", "memory", "output", "killed", "rejected", "internal"]


class Fault(TypedDict):
    """Why a run has no value, as its author may read it."""

    type: str
    message: str
    traceback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may take; each is enforced from outside the jail."""

    timeout_seconds: float
    memory_limit_mb: int
    #: Processor cores: the budget of processor time is this times the timeout.
    cpu_limit: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One execution: a transformer's `transform(input)` or a script's `main(input)`."""

    kind: Kind
    code: str
    input: Any
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a job. Reason, times and memory come from outside the jail, never from it."""

    exit_reason: ExitReason
    value: Any = None
    error: Fault | None = None
    stdout: str = ""
    stderr: str = ""
    wall_ms: float = 0.0
    cpu_ms: float = 0.0
    memory_peak_kb: int = 0
    tier: str = ""
    layers: tuple[str, ...] = ()
