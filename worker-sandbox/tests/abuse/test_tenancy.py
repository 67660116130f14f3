"""Family 9: pool, queue and tenancy. What one execution does is over when it is over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abuse import snapshot
from abuse.arena import Arena
from abuse.attacks import CASES
from abuse.case import LIMITS, PROBE, SHORT
from abuse.world import CANARY, canary
from worker_sandbox.jail import boot
from worker_sandbox.job import Job, Limits, Run
from worker_sandbox.sandbox import Sandbox

WORKER = """
import sys, threading, time
from dataclasses import replace
from worker_sandbox.job import Job, Limits
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.settings import JailSettings

if __name__ == "__main__":
    sandbox = Sandbox.open(replace(JailSettings().sandbox(), pool_size=3))
    spin = Job(kind="script", code="def main(p):\\n    while True: pass", input=None,
               limits=Limits(timeout_seconds=60.0, memory_limit_mb=64, cpu_limit=1.0))
    for _ in range(3):
        threading.Thread(target=sandbox.run, args=(spin,), daemon=True).start()
    while sandbox.running < 3 or sandbox.ready < 3:
        time.sleep(0.01)
    print("runs", flush=True)
    time.sleep(60)
"""


def job(code: str, given: Any = None, *, limits: Limits = LIMITS) -> Job:
    return Job(kind="script", code=f"{PROBE}\n{code}", input=given, limits=limits)


def only_namespaces(arena: Arena, reason: str) -> None:
    """Skip where docs/sandbox.md says that the weaker tier does it otherwise."""
    if arena.sandbox.tier.name != "namespaces":
        pytest.skip(reason)


def at_once(arena: Arena, jobs: list[Job], *, threads: int = 8) -> list[Run]:
    """Run them all, so many at a time; every one ends as every execution has to."""
    with ThreadPoolExecutor(threads, thread_name_prefix="abuse-tenant") as pool:
        return list(pool.map(arena.sandbox.run, jobs))


def valid(arena: Arena, runs: list[Run]) -> None:
    for run in runs:
        arena.look_at(run)


# ---------------------------------------------------------------- what one leaves for the next

LEAVE = """
import builtins, json

def main(p):
    builtins.left = json.left = sys.left = p["secret"]
    json.dumps = json.loads = None
    os.environ["LEFT"] = p["secret"]
    for place in ("/tmp", "/job", "/job/scratch", ".", "/dev/shm"):
        attempt(place, write, f"{place}/left", p["secret"])
    os.umask(0)
    os.chdir("/")
    sys.path.insert(0, p["secret"])
    sys.setrecursionlimit(60)
    return "left"
"""

FIND = """
import builtins, gc, json

def main(p):
    found = [
        *(thing.left for thing in (builtins, json, sys) if hasattr(thing, "left")),
        *(name for name in os.environ if name == "LEFT"),
        *(os.path.join(place, name) for place in ("/tmp", "/job", "/job/scratch", ".", "/dev/shm")
          if os.path.isdir(place) for name in os.listdir(place) if name == "left"),
        *(name for name in sys.path if p["mark"] in name),
    ]
    if sys.getrecursionlimit() != 1000 or not callable(json.dumps):
        found.append("another interpreter")
    return found
"""


def test_nothing_of_one_is_there_for_the_next(arena: Arena) -> None:
    only_namespaces(arena, "the host's folders are there, and cannot be listed")
    secret = canary()
    for _ in range(2 * arena.sandbox.settings.pool_size):
        left = arena.sandbox.run(job(LEAVE, {"secret": secret}))
        assert left.value == "left", left
        found = arena.run(job(FIND, {"mark": CANARY}))
        assert found.value == [], found


def test_one_interpreter_for_both_would_show_it() -> None:
    """The control: the same two after each other in one process, as a warm worker has them."""
    script = (
        f"{PROBE}\n{LEAVE}\nleave = main\n{FIND}\n"
        "leave({'secret': 'x-left'}); print(main({'mark': 'x-left'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/dev/shm"
    )
    Path("/dev/shm/left").unlink(missing_ok=True)
    Path("/tmp/left").unlink(missing_ok=True)
    assert "another interpreter" in done.stdout, done
    assert "LEFT" in done.stdout, done


LOOK_FOR_OTHERS = next(case for case in CASES if case.name == "read-the-whole-memory").code


def test_the_neighbours_secret_is_in_nobodys_memory(arena: Arena) -> None:
    """Before, beside and after: what another tenant gave in never was in this process."""
    for _ in range(3):
        with arena.watched():
            run = arena.run(job(textwrap.dedent(LOOK_FOR_OTHERS)))
        assert run.exit_reason == "ok", run
        assert run.value["pages"] > 200, "this looked nowhere"
        assert run.value["found"] == [], run


def test_two_executions_are_told_different_chances(arena: Arena) -> None:
    code = """
import random, tempfile, uuid

def main(p):
    return [random.random(), random.getrandbits(64), str(uuid.uuid4()), str(uuid.uuid1())]
"""
    runs = at_once(arena, [job(code)] * 12)
    for answers in zip(*(run.value for run in runs), strict=True):
        assert len(set(answers)) == len(runs), "what one has drawn, the other can foretell"


# ---------------------------------------------------------------- floods of one tenant

FORK_BOMB = """
def main(p):
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""
CRASH = "import ctypes\n\ndef main(p):\n    ctypes.string_at(0)"
HOG = """
def main(p):
    held = []
    while True:
        held.append(bytearray(os.urandom(1024) * 1024))
"""
FLOOD = "def main(p):\n    while True:\n        print('x' * 100_000)"
SCRATCH = """
def main(p):
    try:
        for n in range(100_000):
            with open(f"f{n}", "wb") as file:
                file.write(bytes(1 << 20))
    except OSError:
        pass
    return "full"
"""
THREADS = """
import threading

def spin():
    while True:
        pass

def main(p):
    for _ in range(1000):
        attempt("thread", threading.Thread(target=spin, daemon=True).start)
    spin()
"""


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        pytest.param(FORK_BOMB, {"timeout"}, id="fork-bombs"),
        pytest.param(CRASH, {"killed"}, id="crashes"),
        pytest.param(HOG, {"memory", "error"}, id="memory-hogs"),
        pytest.param(FLOOD, {"output", "timeout"}, id="floods-of-prints"),
        pytest.param(SCRATCH, {"ok"}, id="full-disks"),
        pytest.param(THREADS, {"timeout"}, id="threads"),
    ],
)
def test_thirty_two_at_once_change_nothing(arena: Arena, code: str, ends: set[str]) -> None:
    if code == SCRATCH:
        only_namespaces(arena, "who fills the scratch directory is ended")
    """One tenant's attack, many times over; a few run at a time, as a worker's slots have it."""
    limits = Limits(timeout_seconds=0.5, memory_limit_mb=64, cpu_limit=1.0)
    if "full" in code:
        limits = LIMITS
    with arena.watched(crowded=True):
        runs = at_once(arena, [job(code, limits=limits)] * 32, threads=8)
    valid(arena, runs)
    assert {run.exit_reason for run in runs} <= ends, [run.exit_reason for run in runs]


def test_more_at_once_than_there_are_jails(arena: Arena) -> None:
    code = "def main(p):\n    return p * 2"
    runs = at_once(arena, [job(code, number) for number in range(64)], threads=32)
    assert [run.value for run in runs] == [number * 2 for number in range(64)]


def test_each_gets_his_own_answer(arena: Arena) -> None:
    """Under a mixture of good and bad: no answer goes astray."""
    good = "def main(p):\n    return p"
    jobs = []
    for number in range(40):
        jobs.append(job(good, {"number": number}))
        jobs.append(job(CRASH if number % 2 else HOG, limits=SHORT))
    runs = at_once(arena, jobs, threads=12)
    valid(arena, runs)
    assert [run.value for run in runs[::2]] == [{"number": number} for number in range(40)]
    assert not any(run.exit_reason == "ok" for run in runs[1::2])


# ---------------------------------------------------------------- ends that nobody asked for


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it has ended


def the_zygote(arena: Arena) -> int:
    """The child of this process that runs the jails' program and has children: it bears them."""
    arena.run(job("def main(p):\n    return 1"))  # it stands, whatever happened before

    def look() -> list[int]:
        return [
            pid
            for pid in snapshot.descendants(os.getpid())
            if snapshot.descendants(pid) and boot.__file__.encode() in _command(pid)
        ]

    (found,) = _until(lambda: len(found := look()) == 1 and found)
    return int(found)


def test_the_death_of_the_zygote_is_mended(arena: Arena) -> None:
    only_namespaces(arena, "init buries the jails of a dead zygote, and here nobody does")
    victim = the_zygote(arena)
    with arena.watched(restarted=True):
        os.kill(victim, signal.SIGKILL)
        runs = at_once(arena, [job("def main(p):\n    return 1")] * 8)
        assert {run.exit_reason for run in runs} <= {"ok", "internal"}, runs
        assert arena.run(job("def main(p):\n    return 1")).value == 1
    assert the_zygote(arena) != victim


def test_the_death_of_a_zygote_ends_what_runs_in_its_jails(arena: Arena) -> None:
    only_namespaces(arena, "init buries the jails of a dead zygote, and here nobody does")
    """Whoever was inside is told that it was not his fault: it may be tried again."""
    victim = the_zygote(arena)
    with arena.watched(restarted=True), ThreadPoolExecutor(1) as pool:
        running = pool.submit(arena.sandbox.run, job("def main(p):\n    time.sleep(20)"))
        _until(lambda: arena.sandbox.running > 0)
        time.sleep(0.1)
        os.kill(victim, signal.SIGKILL)
        run = running.result(timeout=5)
    assert run.exit_reason == "internal", run
    assert run.value is None


def test_jails_that_died_while_they_waited_are_not_used(arena: Arena) -> None:
    zygote = the_zygote(arena)
    waiting = snapshot.descendants(zygote)
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)
    _until(lambda: not [pid for pid in waiting if _runs(pid)])
    run = arena.run(job("def main(p):\n    return 1"))
    assert run.value == 1, run
    with arena.watched():
        assert arena.run(job("def main(p):\n    return 1")).value == 1


def test_a_running_jail_that_is_killed_from_outside_says_so(arena: Arena) -> None:
    zygote = the_zygote(arena)
    with arena.watched(), ThreadPoolExecutor(1) as pool:
        code = "def main(p):\n    while True: pass"
        running = pool.submit(arena.sandbox.run, job(code))
        busiest = _until(lambda: _spinning(zygote))
        os.kill(busiest, signal.SIGKILL)
        run = running.result(timeout=5)
    assert run.exit_reason == "killed", run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_worker_that_dies_takes_its_jails_along(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    worker = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert worker.stdout
    try:
        assert worker.stdout.readline() == b"runs\n"
        family = snapshot.descendants(worker.pid)
        assert len(family) >= 7, "a zygote, three that run and three that wait"
        worker.send_signal(number)
        worker.wait(timeout=5)
        _until(lambda: not [pid for pid in family if _runs(pid)], seconds=2)
        _bury(family)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()


def test_opening_and_closing_leaves_nothing(arena: Arena) -> None:
    with arena.watched(crowded=True):
        for _ in range(3):
            with Sandbox.open(replace(arena.sandbox.settings, pool_size=2)) as another:
                assert another.run(job("def main(p):\n    return 1")).value == 1


def test_a_sandbox_that_is_closed_ends_what_runs(arena: Arena) -> None:
    with arena.watched(), ThreadPoolExecutor(2) as pool:
        with Sandbox.open(replace(arena.sandbox.settings, pool_size=2)) as another:
            running = pool.submit(another.run, job("def main(p):\n    time.sleep(20)"))
            _until(lambda: another.running > 0)
            time.sleep(0.1)
        run = running.result(timeout=5)
    assert run.exit_reason in ("internal", "killed"), run


# ---------------------------------------------------------------- inputs of a size


@pytest.mark.parametrize("mebibytes", [1, 8])
def test_a_large_input_arrives_whole(arena: Arena, mebibytes: int) -> None:
    given = "i" * (mebibytes << 20)
    run = arena.run(job("def main(p):\n    return len(p)", given))
    assert run.value == len(given), run


def test_an_input_that_nobody_reads_holds_nobody_up(arena: Arena) -> None:
    """More than a pipe holds, and code that ends before it was all taken."""
    with arena.watched():
        run = arena.run(Job(kind="script", code="(", input="i" * (8 << 20), limits=SHORT))
    assert run.exit_reason in ("error", "rejected"), run


def test_an_input_that_is_too_large_is_refused(arena: Arena) -> None:
    with arena.watched(crowded=True):  # the worker itself has to write it down first
        run = arena.sandbox.run(job("def main(p):\n    return 1", "i" * (65 << 20)))
    assert run.exit_reason in ("rejected", "memory", "error"), run


def _until(look: Any, *, seconds: float = 5.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)
    return found


def _spinning(zygote: int) -> int | None:
    """The jail that has used the most processor time, once that is clearly so."""
    for pid in snapshot.descendants(zygote):
        if snapshot.cpu_ticks(pid) >= 10:
            return pid
    return None


def _bury(family: set[int]) -> None:
    """They became ours when their parent died, as they would become init's."""
    for pid in family:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _runs(pid: int) -> bool:
    return snapshot.state(pid) not in ("", "Z")
