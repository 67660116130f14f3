"""Runs hostile code beside a neighbour, and looks at what must hold after every case."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import time
from collections.abc import Iterator
from typing import get_args

from abuse import snapshot
from abuse.neighbour import Neighbour
from abuse.snapshot import Snapshot
from abuse.world import World
from worker_sandbox.job import ExitReason, Job, Run
from worker_sandbox.sandbox import Sandbox

VALUE_CAP = 1 << 20
TAIL_CAP = (64 << 10) + 200  # and the words that say that it was cut
ERROR_CAP = 128 << 10
GRACE_SECONDS = 1.0
# A neighbour may take three times as long as alone; on top of it, what a busy machine adds.
TIMES_SLOWER = 3.0
NOISE_SECONDS = 0.25
SETTLED_WITHIN = 5.0


@dataclasses.dataclass(slots=True, kw_only=True)
class Arena:
    """One sandbox, the world around it, and how both looked at rest."""

    sandbox: Sandbox
    world: World
    neighbour: Neighbour
    before: Snapshot
    pace: float

    def run(self, job: Job) -> Run:
        """Run one execution, hostile or not; its end is valid, in time, and tells no secret."""
        started = time.monotonic()
        run = self.sandbox.run(job)
        seconds = time.monotonic() - started

        self.look_at(run)
        longest = job.limits.timeout_seconds + GRACE_SECONDS
        # Waiting for a jail is not running; what is measured outside has both.
        assert run.wall_ms / 1000 <= longest, f"ran {run.wall_ms:.0f} ms: {run}"
        assert seconds <= longest + NOISE_SECONDS, f"took {seconds:.2f} s: {run}"
        return run

    @contextlib.contextmanager
    def watched(self, *, crowded: bool = False, restarted: bool = False) -> Iterator[None]:
        """Whatever happens in the block: the neighbour, the worker and the machine bear it.

        `crowded`: more runs than the machine has processors, so the neighbour waits its turn.
        `restarted`: the zygote is killed in it, with which the neighbour's jail may die.
        """
        self.world.listeners.told()
        with self.neighbour.working():
            yield

        harmed = [run for run in self.neighbour.faults if not (restarted and "internal" in run)]
        assert not harmed, f"the neighbour was harmed: {harmed}"
        self.neighbour.faults.clear()
        if not (crowded or restarted):
            self._neighbour_not_slowed()
        self._nothing_left()
        assert self.world.bystander.poll() is None, "somebody else's process was killed"
        heard = self.world.listeners.told()
        assert not heard, f"something left the jail over {heard}"
        self._next_one_is_well()

    def look_at(self, run: Run) -> None:
        """An end is one of the closed set, within its caps, and holds no secret."""
        self._valid(run)
        self._silent(run)

    def _valid(self, run: Run) -> None:
        assert run.exit_reason in get_args(ExitReason), run
        # A tenant must not be able to make the platform try again.
        assert run.exit_reason != "internal", run
        assert (run.error is None) == (run.exit_reason == "ok"), run
        assert len(_compact(run.value)) <= VALUE_CAP, f"a value of {len(_compact(run.value))} bytes"
        assert len(json.dumps(run.error).encode()) <= ERROR_CAP
        for tail in (run.stdout, run.stderr):
            assert len(tail.encode()) <= TAIL_CAP  # and it can be encoded
        assert run.tier == self.sandbox.probe().name, run

    def _silent(self, run: Run) -> None:
        said = repr(dataclasses.asdict(run))
        told = [secret for secret in self.world.canaries if secret in said]
        assert not told, f"a secret came out: {told}"

    def _neighbour_not_slowed(self) -> None:
        allowed = TIMES_SLOWER * self.pace + NOISE_SECONDS
        took = statistics.median(self.neighbour.seconds)
        if took > allowed:  # is it the case, or is it the machine?
            allowed = TIMES_SLOWER * max(self.pace, self.neighbour.pace()) + NOISE_SECONDS
        assert took <= allowed, f"the neighbour took {took:.3f} s and not {self.pace:.3f}"

    def _nothing_left(self) -> None:
        """Wait until all is as it was: ends are awaited, the pool is filled in its own time."""
        deadline = time.monotonic() + SETTLED_WITHIN
        while True:
            snapshot.reap_orphans()
            now = snapshot.take(marker=self.world.marker, key=self.world.key)
            left = now.differences(self.before)
            jails = (self.sandbox.running, self.sandbox.ready)
            if jails != (0, self.sandbox.settings.pool_size):
                left["jails"] = ("running, ready", jails)
            if not left:
                return
            assert time.monotonic() < deadline, f"not as it was (before, now): {left}"
            time.sleep(0.02)

    def _next_one_is_well(self) -> None:
        took = self.neighbour.work()
        if took > TIMES_SLOWER * self.pace + NOISE_SECONDS:
            took = self.neighbour.pace(3)
        assert not self.neighbour.faults, f"the next one was harmed: {self.neighbour.faults}"
        assert took <= TIMES_SLOWER * self.pace + NOISE_SECONDS, f"the next one took {took:.3f} s"


def _compact(value: object) -> bytes:
    """The shortest JSON of a value; raises for what is none, or cannot be encoded."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode()
