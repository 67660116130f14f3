"""One job in one jail, watched from outside until its process is gone.

Nothing here believes the jail: the deadline, the processor budget and the caps are ours, and the
frame that it sends is only bytes here. When that is whole the process is measured and killed:
nothing that it might do later counts, and nobody waits for the kernel to clear it away.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import select
import termios
from array import array
from dataclasses import replace
from time import monotonic
from typing import Final

from worker_sandbox.jail import frames
from worker_sandbox.jails import Ended, Jail
from worker_sandbox.job import ExitReason, Job
from worker_sandbox.prints import Prints

#: How long a killed process may take to end.
_DYING: Final = 10.0
#: What the interpreter itself takes of a control group's memory, page tables and all.
_OVERHEAD: Final = 24 << 20
#: The processor clock is looked at no more often than this.
_CPU_TICK: Final = 0.005
#: A scratch directory that no mount caps is looked at this often.
_SURVEY: Final = 0.02
_CHUNK: Final = 256 << 10
_CORES: Final = os.cpu_count() or 1


class Watch:
    """What is seen of one run. `follow` returns when nothing more of it counts."""

    def __init__(
        self, jail: Jail, job: Job, *, flood_bytes: int, scratch_bytes: int, scratch_files: int
    ) -> None:
        self.stdout = Prints()
        self.stderr = Prints()
        self.received = bytearray()
        self.ended: Ended | None = None
        #: Why we killed it, if we did.
        self.verdict: ExitReason | None = None
        self.wall_ms = 0.0
        self.cpu_budget_ms = 1000.0 * job.limits.cpu_limit * job.limits.timeout_seconds
        self.out_of_memory = False
        self._jail = jail
        self._memory = (job.limits.memory_limit_mb << 20) + scratch_bytes + _OVERHEAD
        self._flood = flood_bytes
        self._scratch_bytes, self._scratch_files = scratch_bytes, scratch_files
        self._seal = secrets.token_hex(frames.SEAL // 2).encode()
        self._to_send = memoryview(_frame(job, scratch_bytes, self._seal))
        self._sent = 0
        self._began = monotonic()
        self._deadline = self._began + job.limits.timeout_seconds
        self._next_look = self._began
        #: When the scratch directory is looked at; never, where the kernel caps it.
        lent = jail.scratch is not None and job.kind == "script"
        self._next_survey = self._began + _SURVEY if lent else math.inf
        self._whole = False
        self._killed_at: float | None = None
        self._poll = select.poll()
        for descriptor, events in (
            (jail.job, select.POLLOUT),
            (jail.result, select.POLLIN),
            (jail.stdout, select.POLLIN),
            (jail.stderr, select.POLLIN),
            (jail.ended, select.POLLIN),
        ):
            self._poll.register(descriptor, events)

    def follow(self) -> None:
        """Hand the job over and watch until its frame is whole, or its process has ended."""
        if self._jail.leaf is not None:
            self._jail.leaf.limit_memory(self._memory)
        self._send()
        while True:
            ready = dict(self._poll.poll(self._wait_ms()))
            for descriptor in ready:
                self._attend(descriptor)
            if self._whole and self._killed_at is None and self._measured():
                break
            if self._jail.ended in ready:
                self.ended = self._read_end()
                break
            if self._killed_at is not None and monotonic() > self._killed_at + _DYING:
                break  # the kernel does not end it: nobody can say what became of it
            self._judge()
        self.wall_ms = 1000.0 * (monotonic() - self._began)
        self.out_of_memory = not self._whole and self._found_out_of_memory()
        for descriptor in (self._jail.result, self._jail.stdout, self._jail.stderr):
            while self._attend(descriptor):
                pass

    @property
    def begun(self) -> bool:
        """Whether the jail read of its job; if it was killed before, nothing of it was run."""
        if self._whole or self.verdict is not None:
            return True
        unread = array("i", [0])
        fcntl.ioctl(self._jail.job, termios.FIONREAD, unread)
        return self._sent > unread[0]

    def _measured(self) -> bool:
        """Measure what waits with its whole frame sent, and kill it; False to await its end."""
        self.ended = self._jail.measure()
        self._killed_at = monotonic()
        self._jail.kill()
        return self.ended is not None

    def _read_end(self) -> Ended | None:
        """How its process ended; behind a whole frame that was by us, or counts no more."""
        ended = self._jail.read_end()
        if ended is None or not self._whole:
            return ended
        return replace(ended, code=0, signal=0)

    def _found_out_of_memory(self) -> bool:
        leaf = self._jail.leaf
        return leaf is not None and leaf.ran_out_of_memory()

    def _attend(self, descriptor: int) -> bool:
        """Read or write once; False when there is nothing more to expect."""
        jail = self._jail
        if descriptor == jail.job:
            return self._send()
        if descriptor == jail.ended:
            return False
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._forget(descriptor)
            return False
        if descriptor == jail.result:
            self._receive(data)
        else:
            (self.stdout if descriptor == jail.stdout else self.stderr).add(data)
        return True

    def _send(self) -> bool:
        try:
            count = os.write(self._jail.job, self._to_send)
            self._sent += count
            self._to_send = self._to_send[count:]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            self._to_send = self._to_send[:0]
        if not self._to_send:
            self._forget(self._jail.job)
        return bool(self._to_send)

    def _receive(self, data: bytes) -> None:
        """Gather one frame; what is sealed otherwise or goes on behind it is none."""
        if self._whole or self.verdict is not None:
            return
        self.received += data
        if len(self.received) < frames.HEADER.size:
            return
        (length,) = frames.HEADER.unpack_from(self.received)
        rest = len(self.received) - frames.HEADER.size - length
        if length > frames.MAX_RESULT:
            self._kill("output")
        elif rest > 0 or not self._sealed():
            self._kill("rejected")
        else:
            self._whole = rest == 0

    def _sealed(self) -> bool:
        """Whether the seal stands, as far as it has come."""
        begin = frames.HEADER.size
        seal = self.received[begin : begin + frames.SEAL]
        return self._seal.startswith(seal)

    def _judge(self) -> None:
        """Kill what has gone past a limit."""
        now = monotonic()
        if now >= self._deadline:
            self._kill("timeout")
        elif self.stdout.total + self.stderr.total > self._flood:
            self._kill("output")
        elif now >= self._next_look:
            left = self.cpu_budget_ms - self._jail.cpu_ms()
            if left <= 0:
                self._kill("timeout")
            self._next_look = now + max(_CPU_TICK, left / 1000.0 / _CORES)
        if now >= self._next_survey:
            self._survey()

    def _survey(self) -> None:
        """Kill what has more in its scratch directory than it may."""
        scratch, most, files = self._jail.scratch, self._scratch_bytes, self._scratch_files
        if scratch is not None and scratch.is_over(most_bytes=most, most_files=files):
            self._kill("memory")
        self._next_survey = monotonic() + _SURVEY

    def _wait_ms(self) -> float:
        if self._killed_at is not None:
            return 1000.0
        until = min(self._deadline, self._next_look, self._next_survey)
        return max(0.0, math.ceil(1000.0 * (until - monotonic())))

    def _kill(self, verdict: ExitReason) -> None:
        if self.verdict is None:
            self.verdict = verdict
            self._killed_at = monotonic()
            self._jail.kill()

    def _forget(self, descriptor: int) -> None:
        try:
            self._poll.unregister(descriptor)
        except KeyError:
            return  # forgotten before


def _frame(job: Job, scratch_bytes: int, seal: bytes) -> bytes:
    """The job as the jail reads it. Raises ValueError or TypeError for what cannot be told."""
    budget = job.limits.cpu_limit * job.limits.timeout_seconds
    body = json.dumps(
        {
            "seal": seal.decode(),
            "kind": job.kind,
            "code": job.code,
            "input": job.input,
            "memory_bytes": job.limits.memory_limit_mb << 20,
            # A backstop behind our own clock, in whole seconds.
            "cpu_seconds": math.ceil(budget) + 1,
            "file_bytes": scratch_bytes,
        }
    ).encode()
    if len(body) > frames.MAX_JOB:
        raise ValueError(f"it is {len(body)} bytes; {frames.MAX_JOB} are allowed")
    return frames.HEADER.pack(len(body)) + body
