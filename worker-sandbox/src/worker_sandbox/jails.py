"""A jail as the supervisor holds it: five pipes and a descriptor of its process."""

from __future__ import annotations

import os
import re
import select
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from worker_sandbox.cgroups import Leaf, Leaves
from worker_sandbox.errors import SandboxUnavailable
from worker_sandbox.jail import frames
from worker_sandbox.jail.zygote import ENDED
from worker_sandbox.scratch import Scratch, Scratches

#: clock_getcpuclockid(3): the processor time of a whole process.
_CPUCLOCK_SCHED: Final = 2
_LONGEST_EXCUSE: Final = 4096
#: The peak of what was resident, in proc_pid_status(5).
_PEAK: Final = re.compile(rb"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a jail's process ended, as the kernel told its zygote."""

    code: int
    signal: int
    cpu_ms: float
    memory_peak_kb: int


@dataclass(slots=True, kw_only=True)
class Jail:
    """One process that stands locked up and does one job. Its owner closes it."""

    pid: int
    job: int
    result: int
    stdout: int
    stderr: int
    ended: int
    process: int
    #: Its control group and where that came from, where there are such.
    leaf: Leaf | None = None
    leaves: Leaves | None = None
    #: The scratch directory that it was lent, and where that came from.
    scratch: Scratch | None = None
    scratches: Scratches | None = None
    _open: bool = field(default=True, init=False)

    def confirm(self) -> None:
        """Read that it stands; raises SandboxUnavailable with what it says instead."""
        said = os.read(self.result, _LONGEST_EXCUSE)
        if said != frames.READY:
            reason = said[1:].decode(errors="replace") or "it ended"
            raise SandboxUnavailable(f"a jail could not be prepared: {reason}")

    def await_standing(self, seconds: float) -> None:
        """Wait until it says that it stands; raises SandboxUnavailable."""
        poll = select.poll()
        poll.register(self.result, select.POLLIN)
        if not poll.poll(1000.0 * seconds):
            raise SandboxUnavailable("a jail could not be prepared in time")
        self.confirm()

    def is_dead(self) -> bool:
        """Whether its process has ended already."""
        poll = select.poll()
        poll.register(self.process, select.POLLIN)
        return bool(poll.poll(0))

    def join(self, leaves: Leaves, tasks: int) -> None:
        """Put it into a control group of its own. Raises SandboxUnavailable."""
        try:
            self.leaf = leaves.make(self.pid, tasks)
        except OSError as exc:
            raise SandboxUnavailable(f"no control group could be made: {exc}") from exc
        self.leaves = leaves

    def cpu_ms(self) -> float:
        """Processor time until now; 0 where the kernel does not tell."""
        try:
            return time.clock_gettime((~self.pid << 3) | _CPUCLOCK_SCHED) * 1000.0
        except OSError:
            return 0.0

    def measure(self) -> Ended | None:
        """What it has used until now, while it waits to be ended; None when that cannot be told."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_bytes()
            cpu = time.clock_gettime((~self.pid << 3) | _CPUCLOCK_SCHED)
        except OSError:
            return None
        peak = _PEAK.search(status)
        if peak is None or self.is_dead():
            return None
        return Ended(code=0, signal=0, cpu_ms=1000.0 * cpu, memory_peak_kb=int(peak[1]))

    def read_end(self) -> Ended | None:
        """How it ended; None when its zygote died and nobody can say. Blocks until it is told."""
        record = os.read(self.ended, ENDED.size)
        if len(record) < ENDED.size:
            return None
        code, number, cpu, peak = ENDED.unpack(record)
        return Ended(code=code, signal=number, cpu_ms=cpu / 1000.0, memory_peak_kb=peak)

    def kill(self) -> None:
        """End its process; the kernel ends everything in its pid namespace with it."""
        try:
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended by itself

    def close(self) -> None:
        """Kill what still runs and give its descriptors back."""
        if not self._open:
            return
        self._open = False
        self.kill()
        for descriptor in (
            self.job,
            self.result,
            self.stdout,
            self.stderr,
            self.ended,
            self.process,
        ):
            os.close(descriptor)
        if self.leaf is not None and self.leaves is not None:
            self.leaves.give_back(self.leaf)
        if self.scratch is not None and self.scratches is not None:
            self.scratches.give_back(self.scratch)
