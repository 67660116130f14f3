"""What a run came to: one reason of the closed set, from what was seen of it."""

from __future__ import annotations

import signal
from typing import Final

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
        return _because("internal", "the jail was lost: nobody saw its process end")
    if watch.verdict is not None:
        return _because(watch.verdict, _WHY[watch.verdict])
    if ended.signal:
        if watch.out_of_memory:
            return _because("memory", "the kernel ended it for its memory")
        return _by_signal(ended, watch.cpu_budget_ms, memory_limit_mb)
    if not watch.received:
        return _because("error", f"the code ended its process (exit code {ended.code})")
    return _by_frame(bytes(watch.received))


_WHY: Final = {
    "timeout": "the time or the processor budget was used up",
    "memory": "the scratch directory holds more than is allowed",
    "output": "more was printed or given back than is allowed",
    "rejected": "the jail did not keep to the protocol: what it sent is not its one sealed frame",
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


def _by_frame(received: bytes) -> Answer | tuple[ExitReason, Fault]:
    header = frames.HEADER.size
    if len(received) < header or len(received) != header + frames.HEADER.unpack_from(received)[0]:
        return _because("rejected", "the jail sent a frame that does not end")
    try:
        return answers.read(received[header + frames.SEAL :])
    except Unreadable as exc:
        return _because("rejected", f"the jail sent what it may not: {exc}")


def _because(reason: ExitReason, message: str) -> tuple[ExitReason, Fault]:
    return reason, Fault(type=reason, message=message, traceback=None)
