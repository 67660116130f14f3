"""Each limit is met by going past it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from worker_sandbox.jails import Jail
from worker_sandbox.job import Job, Kind, Limits, Run
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings

FLOOD = 1 << 20


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    settings = SandboxSettings(
        tier="namespaces", pool_size=2, scratch_mb=1, scratch_files=16, flood_bytes=FLOOD
    )
    with Sandbox.open(settings) as opened:
        yield opened


def run(
    sandbox: Sandbox, code: str, given: Any = None, *, kind: Kind = "script", **limits: Any
) -> Run:
    granted = Limits(**{"timeout_seconds": 10, "memory_limit_mb": 64, **limits})
    return sandbox.run(Job(kind=kind, code=code, input=given, limits=granted))


def test_wall_clock(sandbox: Sandbox) -> None:
    ran = run(sandbox, "import time\ndef main(p): time.sleep(60)", timeout_seconds=0.5)

    assert ran.exit_reason == "timeout"
    assert 500 <= ran.wall_ms < 1500
    assert ran.cpu_ms < 400


@pytest.mark.parametrize("code", [
    "while True: pass",
    ("import threading\ndef main(p):\n"
    " import hashlib\n"
    " def burn():\n  while True: hashlib.sha256(bytes(10 ** 6)).digest()\n"
    " for _ in range(4): threading.Thread(target=burn).start()\n while True: pass"),
])  # fmt: skip
def test_processor_budget(sandbox: Sandbox, code: str) -> None:
    ran = run(sandbox, code, timeout_seconds=10, cpu_limit=0.05)

    assert ran.exit_reason == "timeout"
    assert 500 <= ran.cpu_ms < 900
    assert ran.wall_ms < 9000


def test_the_processor_clock_is_looked_at_when_the_budget_may_be_gone_and_no_oftener(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    clock = Jail.cpu_ms

    def looked(jail: Jail) -> float:
        looks.append(clock(jail))
        return looks[-1]

    monkeypatch.setattr(Jail, "cpu_ms", looked)
    ran = run(sandbox, "while True: pass", timeout_seconds=10, cpu_limit=0.05)

    assert ran.exit_reason == "timeout"
    within = [spent for spent in looks if spent < 500]
    assert 2 < len(within) < 50  # a look each 5 ms would be a hundred
    assert len(within) < len(looks)  # it was ended by a look, perhaps not the last before its death


def test_what_was_printed_before_a_kill_is_kept(sandbox: Sandbox) -> None:
    code = (
        "import sys\ndef main(p):\n print('out', end='')\n print('err', end='', file=sys.stderr)\n"
        " while True: pass"
    )
    ran = run(sandbox, code, timeout_seconds=1)

    assert (ran.stdout, ran.stderr) == ("out", "err")


@pytest.mark.parametrize("code", [
    "def main(p): return len(bytearray(200 << 20))",
    "def main(p):\n a = []\n while True: a.append(bytes(1 << 16))",
    "def main(p): return 'x' * (1 << 40)",
    ("import mmap\ndef main(p):\n try: mmap.mmap(-1, 200 << 20)\n"
    " except OSError: raise MemoryError from None"),
])  # fmt: skip
def test_memory(sandbox: Sandbox, code: str) -> None:
    ran = run(sandbox, code)

    assert ran.exit_reason == "memory"
    assert ran.memory_peak_kb < 120 << 10


def test_memory_up_to_the_limit_is_there(sandbox: Sandbox) -> None:
    ran = run(sandbox, "def main(p): return len(bytearray(100 << 20))", memory_limit_mb=128)

    assert ran.value == 100 << 20
    assert 100 << 10 < ran.memory_peak_kb < 200 << 10


@pytest.mark.parametrize("code", [
    ("import resource\ndef main(p):\n"
    " resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)"),
    ("import resource, os\ndef main(p):\n"
    " resource.prlimit(0, resource.RLIMIT_NPROC, (9999, 9999))"),
])  # fmt: skip
def test_no_limit_can_be_raised(sandbox: Sandbox, code: str) -> None:
    assert run(sandbox, code).exit_reason == "error"


def test_value(sandbox: Sandbox) -> None:
    assert run(sandbox, "def main(p): return 'x' * ((1 << 20) - 2)").exit_reason == "ok"
    ran = run(sandbox, "def main(p): return 'x' * (1 << 20)")
    assert ran.exit_reason == "output"
    assert ran.error is not None
    assert "1048576 are allowed" in ran.error["message"]


def test_an_overflow_of_the_authors_own_is_an_error(sandbox: Sandbox) -> None:
    assert run(sandbox, "import math\ndef main(p): math.exp(9999)").exit_reason == "error"


def test_long_prints_are_cut_in_front_and_marked(sandbox: Sandbox) -> None:
    ran = run(sandbox, "def main(p):\n for n in range(20000): print(n)")

    assert ran.exit_reason == "ok"
    assert len(ran.stdout.encode()) <= 64 << 10
    assert ran.stdout.startswith("[... ")
    assert ran.stdout.endswith("19998\n19999\n")


def test_a_flood_of_prints_ends_the_run(sandbox: Sandbox) -> None:
    ran = run(sandbox, "import os\ndef main(p):\n while True: os.write(1, b'x' * 65536)")

    assert ran.exit_reason == "output"
    assert ran.wall_ms < 5000


def test_prints_are_text_that_can_be_stored(sandbox: Sandbox) -> None:
    code = "import os\ndef main(p): os.write(1, b'a\\0b\\xff\\xfec'); print('\\ud800')"
    ran = run(sandbox, code)

    assert ran.exit_reason == "ok"
    assert "\0" not in ran.stdout
    ran.stdout.encode()


@pytest.mark.parametrize(("code", "wrong"), [
    ("def main(p): open('a', 'wb').write(bytes(2 << 20))", "File too large"),
    ("def main(p):\n for n in range(3): open(str(n), 'wb').write(bytes(600 << 10))",
     "No space left"),
    ("def main(p):\n for n in range(100): open(str(n), 'w')", "No space left"),
    ("def main(p): open('/tmp/a', 'w')", "No such file"),
    ("def main(p): open('/a', 'w')", "Read-only file system"),
    ("def main(p):\n a = [open('/dev/null') for _ in range(100)]", "Too many open files"),
    (("import threading, time\ndef main(p):\n"
     " for _ in range(99): threading.Thread(target=time.sleep, args=(9,)).start()"),
     "can't start new thread"),
])  # fmt: skip
def test_files_descriptors_and_threads(sandbox: Sandbox, code: str, wrong: str) -> None:
    ran = run(sandbox, code, memory_limit_mb=512)

    assert ran.exit_reason == "error"
    assert ran.error is not None
    assert wrong in ran.error["message"]
