"""What a run means for its request: success, or a failure that its author can mend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from csb_core.faults import Fault
from csb_core.models import Failed, Json, Outcome, Retry, Succeeded
from csb_core.value_schema import ValueSchema
from worker_sandbox.job import ExitReason, Run

#: The class and the code of the error that each exit reason ends in; a success has none.
ERRORS: Final[Mapping[ExitReason, tuple[str, str]]] = {
    "error": ("UTIL_ERROR", "util_error"),
    "timeout": ("UTIL_TIMEOUT", "util_timeout"),
    "memory": ("UTIL_MEMORY", "util_memory"),
    "output": ("UTIL_OUTPUT", "util_output"),
    "killed": ("UTIL_KILLED", "util_killed"),
    "rejected": ("UTIL_REJECTED", "util_rejected"),
    "internal": ("SANDBOX", "sandbox_failed"),
}

#: No integer beyond is stored: JSON readers disagree on them.
_INTEGERS: Final = range(-(2**63), 2**64)
#: Characters of stderr, with the traceback that belongs to it.
_LONGEST_TAIL: Final = 65_536
#: Faults of a value that are named.
_MOST_FAULTS: Final = 5


def outcome_of(run: Run, output_schema: ValueSchema | None) -> Outcome:
    """Return what is recorded; the result is kept beside the error, so that its author can look."""
    if run.exit_reason != "ok":
        return _failure(run)
    flaw = unstorable(run.value)
    if flaw is not None:
        return Failed(
            error_class="UTIL_OUTPUT",
            code="value_unstorable",
            message=f"the value cannot be stored: {flaw}",
            result={**document(run), "value": None, "exit_reason": "output"},
        )
    faults = output_schema.faults(run.value) if output_schema is not None else []
    if faults:
        return Failed(
            error_class="UTIL_OUTPUT",
            code="OUTPUT_SCHEMA",
            message=f"the value does not fit the util's output_schema: {_told(faults)}",
            result={**document(run), "exit_reason": "output"},
        )
    return Succeeded(result=document(run), changed=False)


def _failure(run: Run) -> Outcome:
    error_class, code = ERRORS[run.exit_reason]
    message = _message(run)
    if run.exit_reason == "internal":
        return Retry(error_class=error_class, code=code, message=message)
    return Failed(error_class=error_class, code=code, message=message, result=document(run))


def document(run: Run) -> Json:
    """The `result` of a request that ran a util."""
    return {
        "value": run.value if run.exit_reason == "ok" else None,
        "stdout": printable(run.stdout),
        "stderr": printable(_with_traceback(run)),
        "exit_reason": run.exit_reason,
        "wall_ms": round(run.wall_ms, 2),
        "cpu_ms": round(run.cpu_ms, 2),
        "memory_peak_kb": run.memory_peak_kb,
        "sandbox": {"tier": run.tier, "layers": list(run.layers)},
    }


def unstorable(value: Any) -> str | None:
    """Say why a value cannot be stored as JSON; None when it can."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        match item:
            case str():
                if "\0" in item:
                    return "a text holds the character U+0000"
                if not item.isascii() and printable(item) != item:
                    return "a text holds half of a surrogate pair"
            case int() if item not in _INTEGERS:
                return "an integer has more than 64 bits"
            case dict():
                waiting += [*item, *item.values()]
            case list():
                waiting += item
    try:
        orjson.dumps(value)
    except TypeError:
        return "it nests too deeply"
    return None


def printable(text: str) -> str:
    """Return a text that can be stored: what PostgreSQL refuses is replaced."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _told(faults: list[Fault]) -> str:
    shown = "; ".join(f"{fault.pointer or '/'}: {fault.message}" for fault in faults[:_MOST_FAULTS])
    more = len(faults) - _MOST_FAULTS
    return f"{shown} (and {more} more)" if more > 0 else shown


def _message(run: Run) -> str:
    """What a caller reads; an error of the code by its type."""
    if run.error is None:
        return f"the run ended with {run.exit_reason}"
    kind = f"{run.error['type']}: " if run.exit_reason == "error" else ""
    return printable(f"{kind}{run.error['message']}").strip()


def _with_traceback(run: Run) -> str:
    """Return stderr as Python would leave it: at its end the traceback of what was raised."""
    trace = run.error["traceback"] if run.error else None
    return f"{run.stderr}{trace}"[-_LONGEST_TAIL:] if trace else run.stderr
