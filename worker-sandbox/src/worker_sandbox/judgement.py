"""What a run came to: one reason of the closed set, from what was seen of it."""

from __future__ import annotations

import signal

from worker_sandbox import answers
from worker_sandbox.answers import Answer, Unreadable
from worker_sandbox.jail import frames
from worker_sandbox.jails import Ended
from worker_sandbox.job import ExitReason, Fault
from worker_sandbox.supervisor import Watch


def decide(watch: Watch, memory_limit_mb: int) -> Answer | tuple[ExitReason, Fault]:
    """The jail's own answer where it is believed, else our reason and its text."""
    ended = watch.ended
    if ended is None:
        return _because("internal", "the jail was lost with its zygote")
    if watch.verdict is not None:
        return _because(watch.verdict, _WHY[watch.verdict])
    if ended.signal:
        return _by_signal(ended, watch.cpu_budget_ms, memory_limit_mb)
    body = _body(watch.received)
    if body is None:
        if watch.received:
            return _because("rejected", "the jail sent a frame that does not end")
        return _because("error", f"the code ended its process (exit code {ended.code})")
    try:
        return answers.read(body)
    except Unreadable as exc:
        return _because("rejected", f"the jail sent what it may not: {exc}")


_WHY = {
    "timeout": "the time or the processor budget was used up",
    "output": "more was printed or given back than is allowed",
    "rejected": "the jail did not keep to the protocol: it sent more than one frame, or lived on",
}


def _by_signal(
    ended: Ended, cpu_budget_ms: float, memory_limit_mb: int
) -> tuple[ExitReason, Fault]:
    if ended.signal == signal.SIGKILL:
        if ended.cpu_ms >= cpu_budget_ms:
            return _because("timeout", _WHY["timeout"])
        if ended.memory_peak_kb >= 0.9 * 1024 * memory_limit_mb:
            return _because("memory", "the kernel ended it for its memory")
    name = signal.Signals(ended.signal).name
    return _because("killed", f"the process died by {name}")


def _body(received: bytearray) -> bytes | None:
    header = frames.HEADER.size
    if len(received) < header:
        return None
    (length,) = frames.HEADER.unpack_from(received)
    return bytes(received[header:]) if len(received) == header + length else None


def _because(reason: ExitReason, message: str) -> tuple[ExitReason, Fault]:
    return reason, Fault(type=reason, message=message, traceback=None)
