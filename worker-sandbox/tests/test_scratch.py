"""Scratch directories of the weaker tier: one jail's own, capped, and gone with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from worker_sandbox.job import Job, Limits, Run
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings
from worker_sandbox.scratch import Scratches

LIMITS = Limits(timeout_seconds=10, memory_limit_mb=128)
SECRET = "what-the-neighbour-wrote"
#: A neighbour that has a secret file, and keeps it until its directory tells it to end.
NEIGHBOUR = f"""
import os, time
def main(p):
    with open("secret", "w") as file:
        file.write({SECRET!r})
    while not os.path.exists("enough"):
        time.sleep(0.01)
    return os.listdir(".")
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder in memory that jails may search, as a pod's volume is."""
    made = Path(subprocess.check_output(["mktemp", "-d", "-p", "/dev/shm"], text=True).strip())
    made.chmod(0o711)
    yield made
    assert not list(made.iterdir()), "something was left behind"
    made.rmdir()


@contextmanager
def opened(root: Path, *without: str, **more: Any) -> Iterator[Sandbox]:
    settings = SandboxSettings(tier="landlock", pool_size=2, scratch_root=root, **more)
    with Sandbox.open(settings, without=without) as sandbox:
        yield sandbox


def script(sandbox: Sandbox, code: str, given: Any = None) -> Run:
    return sandbox.run(Job(kind="script", code=code, input=given, limits=LIMITS))


def within(seconds: float, holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.01)
    return found


def test_a_script_works_in_a_directory_of_its_own_and_the_next_finds_nothing(root: Path) -> None:
    code = """
import os, sqlite3, tempfile
def main(p):
    found = os.listdir(".")
    os.makedirs("a/b")
    os.rename("a/b", "c")
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/x", "w") as file:
        file.write("x")
    with sqlite3.connect("d") as database:
        database.execute("CREATE TABLE t AS SELECT 1")
    return [found, sorted(os.listdir("."))]
"""
    with opened(root) as sandbox:
        for _ in range(4):
            assert script(sandbox, code).value == [[], ["a", "c", "d"]]
        (folder,) = root.iterdir()
        within(5, lambda: len(list(folder.iterdir())) <= 2)  # those of the jails that wait


def test_a_transformer_has_none(root: Path) -> None:
    code = """
import os
def transform(data):
    try:
        os.fstat(5)
        return "open"
    except OSError:
        return os.getcwd()
"""
    with opened(root) as sandbox:
        run = sandbox.run(Job(kind="transformer", code=code, input=None, limits=LIMITS))
        assert run.value == "/"


REACH = """
import os
def main(p):
    seen = []
    for way in (
        lambda: open(p["file"]).read(),
        lambda: os.listdir(p["folder"]),
        lambda: os.listdir(".."),
        lambda: open(p["folder"] + "/planted", "w").write("x"),
        lambda: open("../planted", "w").write("x"),
        lambda: os.rename(p["file"], "mine"),
        lambda: os.unlink(p["file"]),
    ):
        try:
            way()
            seen.append("done")
        except PermissionError:
            seen.append("refused")
        except FileNotFoundError:
            seen.append("gone")
    return seen
"""


def beside_a_neighbour(root: Path, code: str, *without: str) -> tuple[Any, Run]:
    """What the code gives while a neighbour has a secret, and how the neighbour ended."""
    ended: list[Run] = []
    with opened(root, *without) as sandbox:
        thread = threading.Thread(target=lambda: ended.append(script(sandbox, NEIGHBOUR)))
        thread.start()
        secret = within(5, lambda: next(root.glob("*/*/secret"), None))
        within(5, secret.read_text)
        run = script(sandbox, code, {"file": str(secret), "folder": str(secret.parent)})
        (secret.parent / "enough").touch()
        thread.join(10)
        # Without Landlock it gets even there, when the worker is no other user.
        (secret.parent.parent / "planted").unlink(missing_ok=True)
    return run.value, ended[0]


def test_no_jail_gets_at_that_of_another_even_when_it_knows_its_name(root: Path) -> None:
    seen, neighbour = beside_a_neighbour(root, REACH)
    assert seen == ["refused"] * 7
    assert sorted(neighbour.value) == ["enough", "secret"]


def test_without_landlock_it_would(root: Path) -> None:
    seen, _ = beside_a_neighbour(root, REACH, "landlock")
    # The folder of all belongs to the worker, who is another user here when it is root.
    assert [seen[0], seen[1], seen[3], seen[5]] == ["done"] * 4


CHANGE = """
import os
def main(p):
    os.chmod(p["file"], 0)
    os.utime(p["file"], (1, 1))
"""


@pytest.mark.parametrize(("without", "mode"), [((), 0o644), (("seccomp",), 0)])
def test_files_of_its_own_user_cannot_be_shut_or_dated_back(
    root: Path, tmp_path: Path, without: tuple[str, ...], mode: int
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    file = tmp_path / "file"
    file.touch(0o644)
    file.chmod(0o644)
    with opened(root, *without) as sandbox:
        if os.geteuid() == 0:
            os.chown(file, sandbox.settings.uid, sandbox.settings.uid)
        assert script(sandbox, CHANGE, {"file": str(file)}).exit_reason == "ok"
    found = file.stat()
    assert found.st_mode & 0o777 == mode
    assert (found.st_mtime == 1) == bool(without)


FILLS = {
    "files": "for n in range(3000): open(str(n), 'w').close()",
    "folders": "for n in range(3000): os.mkdir(str(n))",
    "depth": "for n in range(300): os.mkdir('d'); os.chdir('d')",
    "bytes": "for n in range(40): open(str(n), 'wb').write(bytes(1 << 20))",
    "closed": "os.umask(0o777); os.mkdir('d'); os.umask(0o400); os.mkdir('e'); os.chdir('e')\n"
    "    for n in range(3000): open(str(n), 'w').close()",
}


def filling(what: str) -> str:
    return f"import os, time\ndef main(p):\n    {FILLS[what]}\n    time.sleep(0.5)\n    return 1"


@pytest.mark.parametrize("what", FILLS)
def test_who_fills_it_is_ended_and_all_of_it_removed(root: Path, what: str) -> None:
    with opened(root) as sandbox:
        run = script(sandbox, filling(what))
        assert (run.exit_reason, run.wall_ms < 500) == ("memory", True), run
        assert run.error is not None
        assert "scratch" in run.error["message"] or what == "bytes"  # a control group was faster
        assert script(sandbox, "def main(p): return open('x', 'w').write('x')").value == 1


def test_with_room_for_it_nobody_is_ended(root: Path) -> None:
    with opened(root, "cgroups", scratch_mb=64, scratch_files=10_000) as sandbox:
        for what in set(FILLS) - {"depth"}:
            assert script(sandbox, filling(what)).value == 1, what


def test_one_file_is_capped_by_the_kernel(root: Path) -> None:
    code = "def main(p):\n with open('x', 'wb') as file: file.write(bytes(17 << 20))"
    with opened(root) as sandbox:
        run = script(sandbox, code)
        assert run.error is not None
        assert run.error["type"] == "OSError"


HOSTILE = """
import os
def main(p):
    for n in range(100):
        os.makedirs(f"{n % 3}/{n}", 0o300)
        os.symlink(p, f"{n % 3}/{n}/link")
        open(f"{n % 3}/{n}/file", "w").close()
    os.symlink(p, "link")
    return 1
"""


def test_what_is_left_is_removed_and_its_links_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with opened(root, scratch_files=1000) as sandbox:
        assert script(sandbox, HOSTILE, str(tmp_path)).value == 1
    assert (tmp_path / "kept").read_text() == "kept"


KILLED = """
import os, pathlib, signal, sys
from worker_sandbox.scratch import Scratches
scratches = Scratches.open(pathlib.Path(sys.argv[1]), uid=os.getuid())
scratch = scratches.make()
os.mkdir("d", dir_fd=scratch.descriptor)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_worker_left_goes_and_what_a_living_one_has_stays(root: Path) -> None:
    living = Scratches.open(root, uid=os.getuid())
    kept = living.make()
    subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False, timeout=30)
    assert len(list(root.iterdir())) == 2

    with opened(root):
        within(5, lambda: len(list(root.iterdir())) == 2)  # the living one's, and ours
        assert os.path.samestat(next(root.glob(f"*/{kept.name}")).stat(), os.fstat(kept.descriptor))
    living.give_back(kept)
    living.close()


def test_the_self_test_holds_with_it(root: Path) -> None:
    with opened(root) as sandbox:
        report = sandbox.self_test()
        assert report.held
        assert not report.breaches
