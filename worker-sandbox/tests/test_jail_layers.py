"""Each layer holds something that gets through without it: a wall that nobody can miss is none."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import prometheus_client
import pytest

import csb_core
import worker_sandbox
from worker_sandbox import jail
from worker_sandbox.attacks import ATTACKS
from worker_sandbox.jail.plan import LAYERS, TierName
from worker_sandbox.job import Job, Limits
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings
from worker_sandbox.self_test import SelfTest

SYSTEM_PYTHON = Path("/usr/bin/python3.11")
NOBODY = 65_533
LIMITS = Limits(timeout_seconds=10, memory_limit_mb=64)


#: Which attacks get through when these layers are left out.
THROUGH: Final[tuple[tuple[tuple[str, ...], set[str]], ...]] = (
    (
        ("seccomp",),
        {
            "fork",
            "execute a program",
            "be traced",
            "make a user namespace",
            "reach the kernel's keyring",
            "execute memory that was written",
            "change the user",
        },
    ),
    (("rlimits", "cgroups"), {"take more memory than the limit"}),
    (("root", "landlock"), {"read the host's accounts", "read a file of the worker's"}),
    (
        ("network", "seccomp", "landlock"),
        {"connect to a local port", "connect to an abstract unix socket"},
    ),
    (("pid", "seccomp", "landlock", "root"), {"see other processes"}),
    (("seccomp", "scrub"), {"find a descriptor of the worker's"}),
    (
        ("seccomp", "capabilities", "landlock"),
        {"make a user namespace and mount in it"},
    ),
    (
        LAYERS,
        {
            "signal another process",
            "write outside the scratch directory",
            "read the worker's environment",
        },
    ),
)


def attacked(tier: TierName, *without: str) -> SelfTest:
    settings = SandboxSettings(tier=tier, pool_size=2)
    with Sandbox.open(settings, without=without) as sandbox:
        return sandbox.self_test()


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_every_attack_succeeds_outside_and_none_inside(tier: TierName) -> None:
    tried = attacked(tier).tried

    assert {one.attack: one.outcome for one in tried} == dict.fromkeys(ATTACKS, "held")


@pytest.mark.parametrize(("without", "through"), THROUGH)
def test_without_a_layer_its_attacks_get_through(
    monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...], through: set[str]
) -> None:
    monkeypatch.setenv("CSB_BAIT", "canary")

    assert through <= set(attacked("namespaces", *without).breaches)


def test_every_attack_gets_through_somewhere() -> None:
    assert set().union(*(through for _, through in THROUGH)) == set(ATTACKS)


def test_a_breach_is_no_pass() -> None:
    assert attacked("namespaces").held
    assert not attacked("namespaces", "seccomp").held


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root cannot give its bounding set up")
@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_no_capability_is_left_that_a_program_could_be_given(tier: TierName) -> None:
    code = (
        "import ctypes\ndef main(p):\n"
        " libc, read = ctypes.CDLL(None), 23\n"  # PR_CAPBSET_READ
        " return [number for number in range(64) if libc.prctl(read, number, 0, 0, 0) == 1]"
    )
    job = Job(kind="script", code=code, input=None, limits=LIMITS)
    with Sandbox.open(SandboxSettings(tier=tier, pool_size=1)) as sandbox:
        assert sandbox.run(job).value == []


def test_without_landlock_the_weaker_tier_sees_the_host() -> None:
    assert "read the host's accounts" in attacked("landlock", "landlock").breaches


@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="no Python that every user may read")
@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_an_ordinary_user_gets_the_same_jail(tier: TierName, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = {paths!r}\n"
        "from worker_sandbox.sandbox import Sandbox\n"
        "from worker_sandbox.sandbox_settings import SandboxSettings\n"
        "with Sandbox.open(SandboxSettings(tier={tier!r}, pool_size=1)) as sandbox:\n"
        "    tried = sandbox.self_test()\n"
        "    print(tried.held, tried.breaches, sandbox.tier)\n"
    )
    # Copies, because another user may not be able to read the checkout.
    for package in (worker_sandbox, csb_core, prometheus_client):
        source = Path(package.__file__ or "").parent
        shutil.copytree(source, tmp_path / source.name)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    ran = subprocess.run(
        [str(SYSTEM_PYTHON), "-I", "-c", program.format(paths=[str(tmp_path)], tier=tier)],
        user=NOBODY if os.geteuid() == 0 else None,
        group=NOBODY if os.geteuid() == 0 else None,
        extra_groups=[] if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.stdout.startswith("True ()"), ran.stdout + ran.stderr


def test_the_programs_of_a_jail_import_the_standard_library_and_each_other() -> None:
    wrong = set()
    for file in Path(jail.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            wrong |= {
                f"{file.name}: {name}"
                for name in names
                if name.partition(".")[0] not in sys.stdlib_module_names
                and not name.startswith("worker_sandbox.jail")
            }
    assert wrong == set()
