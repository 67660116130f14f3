"""Nothing is left running, nobody else is touched, whatever became of the supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from csb_core.errors import ConfigurationError
from csb_core.local import platform, ports, postgres, processes, programs, redis, standing
from csb_core.local.layout import Layout
from csb_core.local.memory import Memory
from csb_core.local.programs import Program
from csb_core.local.supervisor import Ending, Supervisor
from csb_core.local.sweep import sweep

ENDINGS = {
    "postgres": Ending(signal="INT", seconds=10),
    "redis": Ending(seconds=5),
    "idler": Ending(seconds=5),
    "stubborn": Ending(seconds=1),
}
PATIENCE = timedelta(seconds=1)
PASSWORD = "not-secret"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "a clone; of % mine", {})


@pytest.fixture
def supervisor(layout: Layout) -> Iterator[Supervisor]:
    """A running supervisor with a PostgreSQL, a Redis, an idler, and one that ignores SIGTERM."""
    with layout.locked():
        fleet = [
            _store(layout, "postgres", postgres.prepare),
            _store(layout, "redis", redis.prepare),
            _python(layout, "idler", "import time; time.sleep(600)"),
            _python(layout, "stubborn", STUBBORN),
        ]
        programs.write(layout.programs, fleet)
        supervisor = Supervisor(layout.run, port=ports.free_port(), password=PASSWORD)
        supervisor.start(ENDINGS)
    supervisor.ensure(ENDINGS)
    _until(lambda: all(s["statename"] == "RUNNING" for s in supervisor.states().values()))
    yield supervisor
    supervisor.stop()
    sweep(layout, PATIENCE)


STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
time.sleep(600)
"""


def _python(layout: Layout, name: str, program: str) -> Program:
    env = {processes.MARKER: str(layout.run)}
    return Program(name=name, argv=(sys.executable, "-c", program), port=0, env=env)


def _store(layout: Layout, name: str, prepare: Callable[..., tuple[str, ...]]) -> Program:
    port = ports.free_port()
    argv = prepare(layout.run / name, port=port)
    return Program(name=name, argv=argv, port=port, env={processes.MARKER: str(layout.run)})


def _until(condition: object, patience: timedelta = timedelta(seconds=30)) -> None:
    assert callable(condition)
    deadline = time.monotonic() + patience.total_seconds()
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _pids(supervisor: Supervisor) -> dict[str, int]:
    states: Mapping[str, Mapping[str, int]] = supervisor.states()
    return {name: state["pid"] for name, state in states.items()}


def test_a_dead_program_is_started_again(supervisor: Supervisor) -> None:
    before = _pids(supervisor)["idler"]
    os.kill(before, signal.SIGKILL)
    _until(lambda: _pids(supervisor)["idler"] not in {0, before})


def test_only_what_changed_is_started_anew(supervisor: Supervisor) -> None:
    before = _pids(supervisor)
    supervisor.ensure(["idler", "redis"], changed={"idler"})
    _until(lambda: _pids(supervisor)["idler"] not in {0, before["idler"]})
    after = _pids(supervisor)
    assert {n: after[n] for n in after if n != "idler"} == {
        n: before[n] for n in before if n != "idler"
    }


def test_nothing_is_left_after_the_supervisor_was_killed(
    supervisor: Supervisor, layout: Layout
) -> None:
    pids = _pids(supervisor)
    killed = supervisor.pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    _until(lambda: not processes.alive(killed))
    assert all(processes.alive(pid) for pid in pids.values())
    assert len(processes.marked(layout.run)) >= 5

    supervisor.stop()
    assert sweep(layout, PATIENCE) >= 5
    assert not any(processes.alive(pid) for pid in pids.values())
    assert processes.marked(layout.run) == []
    assert sweep(layout, PATIENCE) == 0


def test_what_runs_without_a_supervisor_is_said_to_be_unwatched(
    supervisor: Supervisor, layout: Layout
) -> None:
    killed = supervisor.pid()
    assert killed is not None
    _until(lambda: redis.pid_of(layout.redis) is not None)
    os.kill(killed, signal.SIGKILL)
    _until(lambda: not supervisor.runs())

    found = {one.name: one for one in standing.status(layout)}
    assert (found["redis"].state, found["redis"].health) == ("unwatched", "ready")
    assert not found["redis"].well
    assert found["idler"].state == "stopped"  # it answers on no port, so nobody knows better


def test_a_supervisor_that_stands_still_keeps_nobody_waiting(supervisor: Supervisor) -> None:
    stopped = supervisor.pid()
    assert stopped is not None
    began = time.monotonic()
    os.kill(stopped, signal.SIGSTOP)
    assert supervisor.states() == {}
    supervisor.stop()
    assert time.monotonic() - began < 60
    assert not processes.alive(stopped)


def test_a_killed_supervisor_may_be_followed_by_a_new_one(
    supervisor: Supervisor, layout: Layout
) -> None:
    killed = supervisor.pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    _until(lambda: not supervisor.runs())
    sweep(layout, PATIENCE)
    supervisor.start(ENDINGS)
    supervisor.ensure(["postgres"])
    _until(lambda: postgres.find(layout.postgres) is not None)


def test_processes_of_another_run_directory_are_not_touched(layout: Layout, tmp_path: Path) -> None:
    env = dict(os.environ)
    sleeper = ["/bin/sleep", "600"]
    neighbour = subprocess.Popen(sleeper, env=env | {processes.MARKER: f"{layout.run}-2"})
    stranger = subprocess.Popen(sleeper, env=env | {"PLACE": str(layout.run)})
    try:
        with layout.locked():
            assert sweep(layout, PATIENCE) == 0
        assert neighbour.poll() is None
        assert stranger.poll() is None
    finally:
        for process in (neighbour, stranger):
            process.kill()
            process.wait()
    assert tmp_path.exists()


def test_a_stale_pid_file_signals_nobody(layout: Layout) -> None:
    with layout.locked():
        victim = subprocess.Popen(["/bin/sleep", "600"])
        try:
            (layout.postgres / "data").mkdir(parents=True)
            pid_file = layout.postgres / "data" / "postmaster.pid"
            pid_file.write_text(f"{victim.pid}\n{layout.postgres}/data\n0\n1\n")
            layout.redis.mkdir()
            (layout.redis / "redis.pid").write_text(str(victim.pid))
            (layout.run / "supervisord.pid").write_text(str(victim.pid))

            Supervisor(layout.run, port=1, password=PASSWORD).stop()
            assert sweep(layout, PATIENCE) == 0
            assert victim.poll() is None
        finally:
            victim.kill()
            victim.wait()


def test_a_sweep_spares_its_own_ancestors(layout: Layout) -> None:
    """Somebody may call `make down` from a shell that carries the marker."""
    program = (
        "import pathlib, sys\n"
        "from csb_core.local import sweep\n"
        "from csb_core.local.layout import Layout\n"
        "layout = Layout.of(pathlib.Path(sys.argv[1]), {})\n"
        "print(sweep.sweep(layout))\n"
    )
    env = os.environ | {processes.MARKER: str(layout.run)}
    command = ["/bin/sh", "-c", '"$@"; echo shell lives', "sh", sys.executable, "-c", program]
    done = subprocess.run(
        [*command, str(layout.root)], env=env, check=True, capture_output=True, text=True
    )
    assert done.stdout == "0\nshell lives\n"


def test_a_start_that_fails_leaves_nothing_running_but_what_ran(layout: Layout) -> None:
    nobody = {"CSB_DATABASE_URL": f"postgresql://csb@{ports.HOST}:{ports.free_port()}/csb"}
    with pytest.raises(ConfigurationError, match="no connection") as raised:
        platform.up(layout, nobody)
    assert processes.marked(layout.run) == []
    assert "Ready to accept connections" in (layout.log / "redis.log").read_text()
    assert raised.value.__notes__ == [
        f"what had started was ended again; all logs are in {layout.log}"
    ]

    supervisor = standing.supervisor_of(layout, Memory(layout.memory))
    supervisor.start(ENDINGS)
    try:
        with pytest.raises(ConfigurationError, match="no connection") as raised:
            platform.up(layout, nobody)
        assert supervisor.runs()
        assert raised.value.__notes__ == [
            "what else runs goes on: make status shows it, make down ends it"
        ]
    finally:
        os.kill(supervisor.pid() or 0, signal.SIGKILL)
        sweep(layout, PATIENCE)
