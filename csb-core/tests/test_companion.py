"""What a provider runs beside its consumer, and a worker that must prove itself first."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta

from tiny import Act, Tiny, eventually

from csb_core.models import Lease, Outcome, Succeeded, Unfinished
from csb_core.states import Status
from csb_core.worker.action import Attempt


@dataclass(slots=True)
class Beside:
    """Notes what it is told; its actions wait until they are interrupted."""

    told: list[str] = field(default_factory=list)
    interrupted: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        self.told.append("run")
        self.stopped.wait()

    def interrupt(self) -> None:
        self.told.append("interrupt")
        self.interrupted.set()

    def stop(self) -> None:
        self.told.append("stop")
        self.stopped.set()

    def wait(self, lease: Lease, attempt: Attempt) -> Outcome:
        del lease, attempt
        self.interrupted.wait()
        return Unfinished(checkpoint=None, after=timedelta(milliseconds=1))

    def work(self, lease: Lease, attempt: Attempt) -> Outcome:
        del lease, attempt
        return Succeeded(result={}, changed=False)


def test_it_lives_as_long_as_the_work(tiny: Tiny) -> None:
    beside = Beside()
    worker = tiny.worker({"noop": Act(do=beside.work)}, companion=beside)
    worker.start()
    [request] = tiny.submit()
    eventually(lambda: tiny.status(request) is Status.SUCCESS)
    worker.stop()
    assert beside.told == ["run", "stop"]


def test_what_outlasts_the_grace_period_is_interrupted_and_given_back(tiny: Tiny) -> None:
    beside = Beside()
    action = Act(do=beside.wait, deadline=timedelta(seconds=60))
    worker = tiny.worker({"noop": action}, companion=beside, grace_seconds=2)
    worker.start()
    [request] = tiny.submit()
    eventually(lambda: tiny.status(request) is Status.IN_PROGRESS)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 2.5
    assert beside.told == ["run", "interrupt", "stop"]
    row = tiny.row(request)
    assert (row["status"], row["retries"], row["error"]) == ("PENDING", 0, None)


def test_a_worker_that_begins_unfit_takes_nothing_before_its_probe_has_passed(tiny: Tiny) -> None:
    passing = threading.Event()
    beside = Beside()

    def probe() -> None:
        passing.wait()

    worker = tiny.worker({"noop": Act(do=beside.work)}, probe=probe)
    worker.fitness.begin_unfit("not yet examined")
    assert worker.checks()["configuration"] == "not yet examined"
    [request] = tiny.submit()
    worker.start()
    try:
        time.sleep(1)
        assert tiny.status(request) is Status.PENDING
        passing.set()
        eventually(lambda: tiny.status(request) is Status.SUCCESS)
        assert worker.checks()["configuration"] == "ok"
    finally:
        passing.set()
        worker.stop()
