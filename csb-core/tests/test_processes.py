"""Real worker processes under gunicorn, stopped, killed and poisoned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from tiny import Tiny, eventually

from csb_core.local import ports
from csb_core.states import Status

#: Where the processes find `tiny_worker`.
PATH = os.pathsep.join([str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH", "")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One gunicorn with its worker processes, and what their actions have left behind."""

    tiny: Tiny
    folder: Path
    master: subprocess.Popen[bytes]
    port: int

    def open(self, gate: str) -> None:
        """Let the actions go on that wait for this gate."""
        (self.folder / gate).touch()

    def effects(self) -> Counter[UUID]:
        """How often each request had its effect."""
        file = self.folder / "effects"
        lines = file.read_text().splitlines() if file.exists() else []
        return Counter(UUID(line.split()[0]) for line in lines)

    def holder(self, request: UUID) -> int:
        """The process that holds this request."""
        return int(str(self.tiny.row(request)["lease_owner"]).split(":")[2])

    def pids(self) -> set[int]:
        """The worker processes that live now."""
        children = Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children").read_text()
        return {int(pid) for pid in children.split()}

    def answers(self, path: str) -> int:
        """The status of a probe's answer; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            return exc.code
        except OSError:
            return 0

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def fleet(tiny: Tiny, folder: Path, **settings: object) -> Iterator[Fleet]:
    """Processes that consume, until the block ends."""
    port, metrics_port = ports.free_port(), ports.free_port()
    options = {
        "DATABASE_URL": tiny.url,
        "REDIS_URL": tiny.redis_url,
        "BIND": f"127.0.0.1:{port}",
        "METRICS_BIND": f"127.0.0.1:{metrics_port}",
        "PROCESSES": 2,
        "SLOTS": 8,
        "POOL_MIN": 1,
        "LEASE_SECONDS": 2,
        "HEARTBEAT_SECONDS": 0.5,
        "RESCUE_SECONDS": 0.2,
        "BLOCK_SECONDS": 0.3,
        "GRACE_SECONDS": 15,
        "SERVICE": "worker-tiny",
        **settings,
    }
    with (folder / "log").open("ab") as log:
        master = subprocess.Popen(
            [
                sys.executable, "-m", "gunicorn",
                "-c", "python:csb_core.worker.gunicorn_conf",
                "tiny_worker:app",
            ],
            env={
                **os.environ,
                "PYTHONPATH": PATH,
                "TINY_FOLDER": str(folder),
                **{f"CSB_{name}": str(value) for name, value in options.items()},
            },
            stdout=log,
            stderr=log,
        )  # fmt: skip
    running = Fleet(tiny=tiny, folder=folder, master=master, port=port)
    try:
        eventually(
            lambda: running.answers("/ready") == 200, within=30, why=lambda: running.log()[-3000:]
        )
        yield running
    finally:
        for pid in running.pids() if master.poll() is None else ():
            _signal(pid, signal.SIGCONT)
        master.terminate()
        try:
            master.wait(30)
        except subprocess.TimeoutExpired:
            master.kill()
            raise


def _signal(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return


def test_a_stopped_worker_that_comes_back_writes_nothing(tiny: Tiny, tmp_path: Path) -> None:
    """SIGSTOP past the lease, another process finishes, SIGCONT: one effect, one end."""
    with fleet(tiny, tmp_path) as running:
        requests = tiny.submit(3, "noop", gate="gate")
        eventually(lambda: tiny.statuses()["IN_PROGRESS"] == 3)
        stopped = running.holder(requests[0])
        held = [request for request in requests if running.holder(request) == stopped]
        os.kill(stopped, signal.SIGSTOP)

        eventually(lambda: all(_is_anothers(running, one, stopped) for one in held), within=15)
        running.open("gate")
        assert tiny.await_ends(requests) == {"SUCCESS": 3}
        before = {request: tiny.row(request) for request in requests}

        os.kill(stopped, signal.SIGCONT)
        eventually(lambda: all("stale_write_rejected" in tiny.trail(request) for request in held))
        # It is a good worker again, and what it lost stays as it was.
        assert tiny.await_ends(tiny.submit(20)) == {"SUCCESS": 20}
        assert stopped in running.pids()

    assert {request: tiny.row(request) for request in requests} == before
    assert {running.effects()[request] for request in requests} == {1}
    for request in held:
        trail = tiny.trail(request)
        assert trail.count("stale_write_rejected") == 1
        assert trail.count("IN_PROGRESS>SUCCESS") == 1
        assert before[request]["attempt"] == 2
    assert tiny.broken_trails() == []


def _is_anothers(running: Fleet, request: UUID, pid: int) -> bool:
    row = running.tiny.row(request)
    return row["status"] == Status.IN_PROGRESS and running.holder(request) != pid


@pytest.mark.slow
def test_a_killed_workers_requests_are_running_again_soon(tiny: Tiny, tmp_path: Path) -> None:
    with fleet(tiny, tmp_path) as running:
        requests = tiny.submit(6, "noop", gate="gate")
        eventually(lambda: tiny.statuses()["IN_PROGRESS"] == 6)
        victim = running.holder(requests[0])
        held = [request for request in requests if running.holder(request) == victim]
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        eventually(lambda: all(_is_anothers(running, one, victim) for one in held))
        assert time.monotonic() - killed < 2 + 3  # the lease, and a little
        running.open("gate")
        assert tiny.await_ends(requests) == {"SUCCESS": 6}
        eventually(lambda: len(running.pids()) == 2)
    assert running.effects() == dict.fromkeys(requests, 1)
    assert tiny.broken_trails() == []


@pytest.mark.slow
def test_a_killed_workers_request_runs_again_while_a_flood_of_another_tenant_waits(
    tiny: Tiny, tmp_path: Path
) -> None:
    """At the default times; the flood's oldest message was rung long before that request."""
    default = {
        "SLOTS": 8,
        "LEASE_SECONDS": 7,
        "HEARTBEAT_SECONDS": 2,
        "RESCUE_SECONDS": 1,
        "BLOCK_SECONDS": 2,
    }
    tiny.backlog(20_000, ago=3600, gate="flood")
    with fleet(tiny, tmp_path, **default) as running:
        eventually(lambda: tiny.statuses()["IN_PROGRESS"] == 12)
        [request] = tiny.submit(tenant=tiny.another_tenant(), gate="one")
        eventually(lambda: tiny.status(request) is Status.IN_PROGRESS, within=1)
        victim = running.holder(request)
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        eventually(lambda: _is_anothers(running, request, victim), within=10)
        assert time.monotonic() - killed < 10
        assert tiny.depth() > 19_900
        running.open("one")
        assert tiny.await_ends([request]) == {"SUCCESS": 1}
        running.open("flood")
    assert running.effects()[request] == 1


@pytest.mark.slow
def test_a_hung_process_is_replaced_and_its_request_is_anothers(tiny: Tiny, tmp_path: Path) -> None:
    with fleet(tiny, tmp_path) as running:
        [hung] = tiny.submit(1, "short", gate="gate")
        eventually(lambda: tiny.status(hung) is Status.IN_PROGRESS)
        hangs = running.holder(hung)
        eventually(lambda: hangs not in running.pids(), within=15)
        running.open("gate")
        assert tiny.await_ends([hung], within=20) == {"SUCCESS": 1}
        eventually(lambda: len(running.pids()) == 2)
        assert tiny.await_ends(tiny.submit(10)) == {"SUCCESS": 10}
    assert running.effects()[hung] == 1
    assert "action.deadline_missed" in running.log()
    assert tiny.broken_trails() == []


def test_a_terminated_fleet_finishes_what_is_in_hand(tiny: Tiny, tmp_path: Path) -> None:
    with fleet(tiny, tmp_path) as running:
        requests = tiny.submit(40, "noop", seconds=0.5)
        eventually(lambda: tiny.statuses()["IN_PROGRESS"] > 0)
        running.master.terminate()
        assert running.master.wait(20) == 0
    statuses = tiny.statuses()
    assert statuses["IN_PROGRESS"] == 0
    assert statuses["PENDING"] == tiny.depth()
    assert running.effects() == Counter(
        request for request in requests if tiny.status(request) is Status.SUCCESS
    )
    assert {tiny.row(request)["losses"] for request in requests} == {0}


def test_a_poison_request_ends_alone(tiny: Tiny, tmp_path: Path) -> None:
    """It kills its worker each time; 500 innocents around it each end well, and once."""
    innocents = tiny.submit(500, ring=False, seconds=0.02)
    [poison] = tiny.submit(1, "poison", ring=False)
    mixed = [*innocents[:250], poison, *innocents[250:]]
    tiny.push(*(tiny.message(request) for request in mixed))
    short = {"LEASE_SECONDS": 1.2, "HEARTBEAT_SECONDS": 0.3}
    with fleet(tiny, tmp_path, **short) as running:
        assert tiny.await_ends(innocents, within=60) == {"SUCCESS": 500}
        assert tiny.await_ends([poison], within=60) == {"FAILED": 1}
        eventually(lambda: len(running.pids()) == 2)

    row = tiny.row(poison)
    assert row["error"]["class"] == "POISON"
    assert (row["losses"], row["lone_losses"], row["attempt"]) == (4, 2, 4)
    assert set(running.effects()) == set(innocents)
    assert tiny.broken_trails() == []
    assert {tiny.row(request)["lone_losses"] for request in innocents} == {0}


def test_a_worker_that_cannot_start_says_which_settings_are_at_fault(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable, "-m", "gunicorn",
            "-c", "python:csb_core.worker.gunicorn_conf",
            "tiny_worker:app",
        ],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("CSB_")},
            "PYTHONPATH": PATH,
            "TINY_FOLDER": str(tmp_path),
            "CSB_DATABASE_URL": "mysql://hunter2",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "CSB_DATABASE_URL" in said
    assert "CSB_REDIS_URL" in said
    assert "hunter2" not in said
