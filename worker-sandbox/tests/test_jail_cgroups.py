"""Control groups, where this machine lets us have them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worker_sandbox.cgroups import Leaves
from worker_sandbox.job import Job, Limits, Run
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings

# The address space and the count of processes are not limited here: only the group can hold.
UNLIMITED = ("rlimits",)


@pytest.fixture(autouse=True)
def _needs_groups() -> None:
    leaves = Leaves.find()
    if leaves is None:
        pytest.skip("no control group can be made here")
    leaves.close()


def run(sandbox: Sandbox, code: str) -> Run:
    limits = Limits(timeout_seconds=20, memory_limit_mb=64)
    return sandbox.run(Job(kind="script", code=code, input=None, limits=limits))


def groups() -> list[Path]:
    return [*Path("/sys/fs/cgroup").rglob("csb-sandbox-*")]


def of(pid: int) -> list[Path]:
    return [group for group in groups() if group.name.startswith(f"csb-sandbox-{pid}-")]


def test_memory_of_all_kinds_is_held_by_the_group() -> None:
    with Sandbox.open(SandboxSettings(pool_size=1), without=UNLIMITED) as sandbox:
        assert "cgroups" in sandbox.tier.layers
        ran = run(sandbox, "def main(p): return len(bytearray(300 << 20))")
        assert ran.exit_reason == "memory"
        assert run(sandbox, "def main(p): return 1").value == 1
    with Sandbox.open(SandboxSettings(pool_size=1), without=("rlimits", "cgroups")) as sandbox:
        assert run(sandbox, "def main(p): return len(bytearray(300 << 20))").exit_reason == "ok"


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_tasks_are_held_by_the_group(tier: str) -> None:
    code = (
        "import threading, time\ndef main(p):\n n = 0\n"
        " try:\n  for _ in range(60):\n"
        "   threading.Thread(target=time.sleep, args=(60,)).start(); n += 1\n"
        " except RuntimeError: pass\n return n"
    )
    settings = SandboxSettings(tier=tier, pool_size=1, threads=10)  # type: ignore[arg-type]
    with Sandbox.open(settings, without=UNLIMITED) as sandbox:
        assert run(sandbox, code).value == 10
    with Sandbox.open(settings, without=("rlimits", "cgroups")) as sandbox:
        assert run(sandbox, code).value == 60


def test_no_group_is_left_by_runs_or_by_closing() -> None:
    with Sandbox.open(SandboxSettings(pool_size=2)) as sandbox:
        for _ in range(50):
            assert run(sandbox, "def main(p): return 1").exit_reason == "ok"
        end = time.monotonic() + 10
        while sandbox.ready < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        for group in of(os.getpid()):
            while len([leaf for leaf in group.iterdir() if leaf.is_dir()]) > 2:
                assert time.monotonic() < end
                time.sleep(0.01)

    assert of(os.getpid()) == []


def test_a_killed_worker_leaves_no_group() -> None:
    program = (
        f"import sys, time; sys.path[:0] = {sys.path!r}\n"
        "from worker_sandbox.sandbox import Sandbox\n"
        "from worker_sandbox.sandbox_settings import SandboxSettings\n"
        "sandbox = Sandbox.open(SandboxSettings(pool_size=2))\n"
        "while sandbox.ready < 2: time.sleep(0.01)\n"
        "print('stands', flush=True)\n"
        "time.sleep(60)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"stands\n"
    assert of(worker.pid)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()

    end = time.monotonic() + 10
    while of(worker.pid):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_a_killed_cleaner_left_is_removed_by_the_next() -> None:
    leaves = Leaves.find()
    assert leaves is not None
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    left = [parent.with_name(f"csb-sandbox-{ended.pid}-0") for parent in leaves.parents]
    for group in left:
        (group / "7").mkdir(parents=True)
    another = Leaves.find()
    assert another is not None

    assert not any(group.exists() for group in left)
    assert all(parent.exists() for parent in leaves.parents)
    another.close()
    leaves.close()
