"""Another tenant, who does honest work while the hostile code runs."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from worker_sandbox.job import Job, Limits
from worker_sandbox.sandbox import Sandbox

ROUNDS = 10_000
CODE = f"""
import hashlib

def transform(data):
    block = data["nonce"].encode()
    for _ in range({ROUNDS}):
        block = hashlib.sha256(block).digest()
    return {{"digest": block.hex(), "length": len(data["secret"])}}
"""


@dataclass(slots=True, kw_only=True)
class Neighbour:
    """Runs its util over and over, and keeps how long that took and what went wrong."""

    sandbox: Sandbox
    secret: str
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def work(self) -> float:
        """Run it once; returns how long it took, and keeps a fault when the answer is wrong."""
        nonce = secrets.token_hex(8)
        job = Job(
            kind="transformer",
            code=CODE,
            input={"nonce": nonce, "secret": self.secret},
            limits=Limits(timeout_seconds=20.0, memory_limit_mb=128, cpu_limit=1.0),
        )
        started = time.monotonic()
        run = self.sandbox.run(job)
        seconds = time.monotonic() - started
        expected = {"digest": _digest(nonce), "length": len(self.secret)}
        if run.exit_reason != "ok" or run.value != expected:
            self.faults.append(f"{run}")
        return seconds

    def pace(self, times: int = 9) -> float:
        """How long it takes now: the median of so many."""
        return statistics.median(self.work() for _ in range(times))

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Work in a thread, at least once, for as long as the block runs."""
        self.seconds, self.faults = [], []
        stop = threading.Event()
        thread = threading.Thread(target=self._work_on, args=(stop,), name="abuse-neighbour")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _work_on(self, stop: threading.Event) -> None:
        self.seconds.append(self.work())
        while not stop.wait(0.01):
            self.seconds.append(self.work())


def _digest(nonce: str) -> str:
    block = nonce.encode()
    for _ in range(ROUNDS):
        block = hashlib.sha256(block).digest()
    return block.hex()
