"""Whatever dies, nothing is left; whatever is used, nothing is used up."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from worker_sandbox.errors import SandboxUnavailable
from worker_sandbox.job import Job, Limits, Run
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings

ECHO = "def transform(data): return data"
SLEEP = "import time\ndef transform(data): time.sleep(60)"


@pytest.fixture(params=["namespaces", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox.open(SandboxSettings(tier=request.param, pool_size=3)) as opened:
        yield opened


def run(sandbox: Sandbox, code: str = ECHO, given: object = 1) -> Run:
    limits = Limits(timeout_seconds=30, memory_limit_mb=64)
    return sandbox.run(Job(kind="transformer", code=code, input=given, limits=limits))


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for it; fail when it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def below(pid: int) -> set[int]:
    """All living processes below one, however far; but for PostgreSQL's, which come and go."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                name, _, rest = (folder / "stat").read_text().rpartition(")")
                fields = rest.split()
                if fields[0] not in {"Z", "X"} and not name.endswith("(postgres"):
                    parents[int(folder.name)] = int(fields[1])
    found: set[int] = set()
    while True:
        more = {child for child, parent in parents.items() if parent in {pid, *found}} - found
        if not more:
            return found
        found |= more


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if _state(pid) not in {"Z", "X", ""}}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def zygote_of(sandbox: Sandbox) -> int:
    house = sandbox._pool.zygotes._house
    assert house is not None
    return house.zygote.process.pid


def test_close_leaves_no_process_and_no_descriptor() -> None:
    run_once = Sandbox.open(SandboxSettings(pool_size=2))
    run(run_once)
    run_once.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    processes = below(os.getpid())

    for _ in range(3):
        with Sandbox.open(SandboxSettings(pool_size=4)) as sandbox:
            until(lambda sandbox=sandbox: sandbox.ready == 4)  # type: ignore[misc]
            run(sandbox)
            assert zygote_of(sandbox) in below(os.getpid()) - processes

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not below(os.getpid()) - processes


def test_five_hundred_runs_leave_everything_as_it_was(sandbox: Sandbox) -> None:
    for _ in range(20):
        run(sandbox)
    until(lambda: sandbox.ready == 3)
    zygote = zygote_of(sandbox)

    def seen() -> tuple[int, int, int, int]:
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            len(list(Path(f"/proc/{zygote}/fd").iterdir())),
            len(below(os.getpid())),
            len(Path("/proc/self/mounts").read_text().splitlines()),
        )

    def rss(pid: int | str) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    gc.collect()
    before, ours, its = seen(), rss("self"), rss(zygote)
    with ThreadPoolExecutor(4) as pool:
        reasons = {ran.exit_reason for ran in pool.map(lambda n: run(sandbox, ECHO, n), range(500))}
    until(lambda: sandbox.ready == 3)
    gc.collect()

    assert reasons == {"ok"}
    assert seen() == before
    assert rss("self") - ours < 4 << 20
    assert rss(zygote) - its < 1 << 20


def test_sixteen_threads_get_each_their_own_answer(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(16) as pool:
        values = list(pool.map(lambda n: run(sandbox, ECHO, n).value, range(160)))

    assert values == list(range(160))
    assert sandbox.running == 0


def test_a_killed_zygote_ends_its_jails_and_is_replaced(sandbox: Sandbox) -> None:
    until(lambda: sandbox.ready == 3)
    zygote = zygote_of(sandbox)
    jails = below(zygote)
    assert len(jails) >= 3

    ran: list[Run] = []
    runner = threading.Thread(target=lambda: ran.append(run(sandbox, SLEEP)))
    runner.start()
    until(lambda: sandbox.running == 1)
    time.sleep(0.1)
    os.kill(zygote, signal.SIGKILL)
    runner.join(10)

    assert [one.exit_reason for one in ran] == ["internal"]
    until(lambda: not alive(jails))
    assert run(sandbox).value == 1
    assert zygote_of(sandbox) != zygote


def test_a_zygote_that_died_in_a_quiet_hour_is_missed(sandbox: Sandbox) -> None:
    until(lambda: sandbox.ready == 3)
    zygote = zygote_of(sandbox)
    os.kill(zygote, signal.SIGKILL)

    until(lambda: sandbox.ready == 3 and zygote_of(sandbox) != zygote, seconds=3)
    assert _state(zygote) == ""  # buried


def test_a_job_whose_jail_was_killed_before_it_began_gets_another(sandbox: Sandbox) -> None:
    until(lambda: sandbox.ready == 3)
    for pid in sandbox.waiting():
        os.kill(pid, signal.SIGSTOP)  # it is given the job, and cannot read of it
    until(lambda: {_state(pid) for pid in sandbox.waiting()} == {"T"})
    ran: list[Run] = []
    runner = threading.Thread(target=lambda: ran.append(run(sandbox)))
    waiting = set(sandbox.waiting())
    runner.start()
    until(lambda: sandbox.running == 1)
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)
    runner.join(10)

    assert [one.exit_reason for one in ran] == ["ok"]


def test_a_closed_sandbox_leaves_no_dead_behind(sandbox: Sandbox) -> None:
    until(lambda: sandbox.ready == 3)
    processes = below(os.getpid())
    zygote = zygote_of(sandbox)
    jails = below(zygote)
    assert jails < processes
    sandbox.close()

    # Its own zygote has buried them: nobody else may do that for a while.
    assert all(_state(pid) == "" for pid in {zygote, *jails})


def test_a_killed_worker_leaves_no_process() -> None:
    program = (
        "import sys, threading, time; sys.path[:0] = {path!r}\n"
        "from worker_sandbox.sandbox import Sandbox\n"
        "from worker_sandbox.sandbox_settings import SandboxSettings\n"
        "from worker_sandbox.job import Job, Limits\n"
        "sandbox = Sandbox.open(SandboxSettings(pool_size=3))\n"
        "job = Job(kind='transformer', code={code!r}, input=1,\n"
        "          limits=Limits(timeout_seconds=60, memory_limit_mb=64))\n"
        "threading.Thread(target=sandbox.run, args=(job,)).start()\n"
        "while not (sandbox.running and sandbox.ready == 3): time.sleep(0.01)\n"
        "print('runs', flush=True)\n"
        "time.sleep(60)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", program.format(path=sys.path, code=SLEEP)],
        stdout=subprocess.PIPE,
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"runs\n"
        left = below(worker.pid)
        assert len(left) >= 5  # the zygote, three that wait, one that runs
    finally:
        worker.kill()
        worker.communicate()

    until(lambda: not alive(left))


def test_closing_ends_what_runs(sandbox: Sandbox) -> None:
    ran: list[Run] = []
    runner = threading.Thread(target=lambda: ran.append(run(sandbox, SLEEP)))
    runner.start()
    until(lambda: sandbox.running == 1)
    sandbox.close()
    runner.join(10)

    assert [one.exit_reason for one in ran] == ["internal"]
    assert run(sandbox).exit_reason == "internal"


def test_the_zygote_is_rotated_and_running_jobs_do_not_notice() -> None:
    settings = SandboxSettings(pool_size=1, rotate_jails=3)
    with Sandbox.open(settings) as sandbox:
        zygotes: set[int] = set()
        slow = "import time\ndef transform(data): time.sleep(1); return data"
        ran: list[Run] = []
        runner = threading.Thread(target=lambda: ran.append(run(sandbox, slow)))
        runner.start()
        end = time.monotonic() + 10
        while len(zygotes) < 3:
            assert time.monotonic() < end
            assert run(sandbox, ECHO, len(zygotes)).value == len(zygotes)
            zygotes.add(zygote_of(sandbox))
        runner.join(10)

        assert [one.exit_reason for one in ran] == ["ok"]
        until(lambda: len(sandbox._pool.zygotes._houses) == 1)


def test_another_zygote_has_another_hash_seed_and_layout() -> None:
    code = "def transform(data): return [hash('x'), id([])]"
    with Sandbox.open(SandboxSettings(pool_size=1, rotate_jails=1)) as sandbox:
        first = run(sandbox, code).value
        until(lambda: run(sandbox, code).value[0] != first[0])
        until(lambda: run(sandbox, code).value[1] != first[1])


def test_an_old_zygote_is_rotated() -> None:
    settings = SandboxSettings(pool_size=1, rotate_after=timedelta(seconds=0.2))
    with Sandbox.open(settings) as sandbox:
        first = zygote_of(sandbox)

        def rotated() -> bool:
            run(sandbox)
            return zygote_of(sandbox) != first

        until(rotated)


def test_who_is_asked_for_nothing_gets_new_jails_too() -> None:
    settings = SandboxSettings(pool_size=2, rotate_after=timedelta(seconds=2))
    with Sandbox.open(settings) as sandbox:
        first = zygote_of(sandbox)
        until(lambda: sandbox.ready == 2)
        waiting = set(sandbox.waiting())

        until(lambda: sandbox.ready == 2 and not waiting & set(sandbox.waiting()))
        assert zygote_of(sandbox) != first
        until(lambda: first not in below(os.getpid()))


def test_an_heir_takes_over_even_if_nobody_asks_for_another_jail() -> None:
    with Sandbox.open(SandboxSettings(pool_size=2, rotate_jails=3)) as sandbox:
        first = zygote_of(sandbox)
        run(sandbox)
        until(lambda: first not in below(os.getpid()) and sandbox.ready == 2)


def test_below_the_floor_it_refuses_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SandboxUnavailable, match="landlock is below the floor, namespaces"):
        Sandbox.open(SandboxSettings(tier="landlock", floor="namespaces"))

    # A zygote that cannot have namespaces: as in a Restricted pod.
    monkeypatch.setattr("worker_sandbox.sandbox.TIERS", ("namespaces", "landlock"))
    broken = SandboxSettings(floor="namespaces", python=Path("/bin/false"))
    with pytest.raises(SandboxUnavailable, match="no namespaces tier here"):
        Sandbox.open(broken)


def test_a_zygote_that_hangs_is_replaced_and_costs_no_more_than_its_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker_sandbox.supervisor._DYING", 0.5)
    monkeypatch.setattr("worker_sandbox.zygotes._ANSWER", 0.5)
    settings = SandboxSettings(pool_size=1, wait=timedelta(seconds=0.3))
    with Sandbox.open(settings) as sandbox:
        until(lambda: sandbox.ready == 1)
        zygote = zygote_of(sandbox)
        os.kill(zygote, signal.SIGSTOP)
        with ThreadPoolExecutor(2) as pool:
            ran = list(pool.map(lambda _: run(sandbox), range(2)))

        # One had the jail that stood ready, the other had none.
        assert sorted(one.exit_reason for one in ran) == ["internal", "ok"]
        until(lambda: run(sandbox).exit_reason == "ok")
        assert zygote_of(sandbox) != zygote
        until(lambda: not alive({zygote}))
