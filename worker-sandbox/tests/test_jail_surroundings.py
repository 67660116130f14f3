"""What code finds around it in a jail, beside its input."""

from __future__ import annotations

import fcntl
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from worker_sandbox.jail import frames
from worker_sandbox.job import Job, Kind, Limits, Run
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox.open(SandboxSettings(tier=request.param, pool_size=2)) as opened:
        yield opened


def run(sandbox: Sandbox, code: str, given: Any = None, kind: Kind = "transformer") -> Run:
    limits = Limits(timeout_seconds=5, memory_limit_mb=64)
    return sandbox.run(Job(kind=kind, code=code, input=given, limits=limits))


def test_what_is_to_be_on_disk_is_in_memory_and_no_disk_is_asked(sandbox: Sandbox) -> None:
    nowhere = 60  # the kernel itself would say that there is no such descriptor
    code = "import os\ndef main(p): return [call(p) for call in (os.fsync, os.fdatasync)]"
    assert run(sandbox, code, nowhere, "script").value == [None, None]


def test_a_database_in_the_scratch_directory_commits(sandbox: Sandbox) -> None:
    code = (
        "import sqlite3\n"
        "def main(p):\n"
        "    for _ in range(3):\n"
        "        with sqlite3.connect(p) as base:\n"
        "            base.execute('PRAGMA synchronous = EXTRA')\n"
        "            base.execute('CREATE TABLE IF NOT EXISTS t (x)')\n"
        "            base.execute('INSERT INTO t VALUES (1)')\n"
        "        base.close()\n"
        "    return sqlite3.connect(p).execute('SELECT sum(x) FROM t').fetchone()\n"
    )
    if sandbox.tier.name == "landlock":
        pytest.skip("there is no scratch directory")
    ran = run(sandbox, code, "kept.db", "script")

    assert (ran.value, ran.error) == ([3], None)


def test_a_lock_that_is_said_to_be_taken_holds_nobody_up(sandbox: Sandbox) -> None:
    code = (
        "import fcntl, struct, time\n"
        "def main(p):\n"
        "    with open('/dev/null') as file:\n"
        "        lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0)\n"
        "        fcntl.fcntl(file, fcntl.F_SETLKW, lock)\n"
        "        time.sleep(0.5)\n"
        "        return 1\n"
    )
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    found = set()
    with ThreadPoolExecutor(1) as beside, Path("/dev/null").open("rb") as file:
        ran = beside.submit(run, sandbox, code, None, "script")
        while not ran.done():
            found.add(struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, wanted))[0])
            time.sleep(0.01)

    assert ran.result().value == 1
    assert found == {fcntl.F_UNLCK}


def test_a_text_is_read_whatever_it_came_in_without_a_look_at_the_library(sandbox: Sandbox) -> None:
    code = (
        "import sys\n"
        "def transform(data):\n"
        "    sys.path.clear(); sys.meta_path.clear()\n"
        "    return [data.encode(name).decode(name) for name in (\n"
        "        'latin-1', 'iso-8859-15', 'windows-1252', 'utf-16', 'utf-16-le', 'utf-32',\n"
        "        'utf-8-sig', 'utf-7', 'punycode', 'idna', 'shift_jis', 'gb18030')] + [\n"
        "        b'd\\xe9j\\xe0'.decode('cp1250'), b'plain'.decode('ascii')]\n"
    )
    ran = run(sandbox, code, "cafe")

    assert ran.exit_reason == "ok", ran.error
    assert ran.value == ["cafe"] * 12 + ["d\xe9j\u0155", "plain"]


def test_no_frame_or_module_tells_where_the_worker_is_installed(sandbox: Sandbox) -> None:
    code = (
        "import gc, sys\n"
        "def transform(data):\n"
        "    frame, seen = sys._getframe(), []\n"
        "    while frame is not None:\n"
        "        seen += [frame.f_code.co_filename, *map(str, frame.f_globals.values())]\n"
        "        frame = frame.f_back\n"
        "    gc.unfreeze()\n"
        "    functions = [f for f in gc.get_objects() if type(f) is type(transform)]\n"
        "    seen += [f.__code__.co_filename for f in functions]\n"
        "    seen += [*sys.path, *sys.path_importer_cache, *map(str, sys.modules.values())]\n"
        "    return [len(functions) > 1000, sorted({s for s in seen if data in s})]\n"
    )
    place = str(Path(frames.__file__).parents[2])

    assert run(sandbox, code, place).value == [True, []]


def test_the_interpreter_is_isolated_and_its_command_line_tells_nothing(sandbox: Sandbox) -> None:
    code = (
        "import os, sys\n"
        "def transform(data):\n"
        "    flags = sys.flags\n"
        "    return [flags.isolated, flags.ignore_environment, flags.no_user_site, flags.no_site,\n"
        "        flags.utf8_mode, 'site' in sys.modules, sys.argv, sys.orig_argv, *os.environ]\n"
    )
    house = sandbox._pool.zygotes._house
    assert house is not None
    told = Path(f"/proc/{house.zygote.process.pid}/cmdline").read_bytes().split(b"\0")[1:-1]

    assert run(sandbox, code).value == [1, 1, 1, 1, 1, False, [""], []]
    assert told[:-2] == [b"-I", b"-S", b"-E", b"-X", b"utf8"]
    assert told[-1].isdigit()  # its end of the channel, and nothing else
