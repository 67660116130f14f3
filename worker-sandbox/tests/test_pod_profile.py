"""The seccomp profile that the sandbox worker's pod has on a node, held to what it is for.

It is loaded by libseccomp, as container runtimes do it, for a user without a capability.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

import csb_core
import worker_sandbox

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "helm/worker/files/seccomp/csb-sandbox.json"
CONFINE = Path(__file__).with_name("confine.py")
#: The user of the images.
USER = "10001"
#: One that every user may read.
PYTHON = Path("/usr/bin/python3.11" if os.geteuid() == 0 else sys.executable)

OPEN = """
import sys
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings
from worker_sandbox.job import Job, Limits
with Sandbox.open(SandboxSettings(tier=sys.argv[1], pool_size=1)) as sandbox:
    report = sandbox.self_test()
    print(sandbox.tier.name, report.held, *report.breaches)
"""

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no Python that every user may read")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Copies that another user may read, of the sandbox and what it imports."""
    place = tmp_path_factory.mktemp("pod")
    for package in (worker_sandbox, csb_core, prometheus_client):
        source = Path(package.__file__ or "").parent
        shutil.copytree(source, place / source.name)
    shutil.copy(CONFINE, place)
    for folder in (place, *place.parents[:-2]):
        folder.chmod(0o755)
    yield place
    shutil.rmtree(place)


def confined(
    place: Path, code: str, *arguments: str, without: frozenset[str] = frozenset()
) -> subprocess.CompletedProcess[str]:
    """Run this code as a pod would, under the profile without a few of its calls."""
    profile: dict[str, Any] = json.loads(PROFILE.read_text())
    for group in profile["syscalls"]:
        group["names"] = [name for name in group["names"] if name not in without]
    (place / "profile.json").write_text(json.dumps(profile))
    confine = (str(PYTHON), str(place / "confine.py"), str(place / "profile.json"), USER)
    return subprocess.run(
        [*confine, str(PYTHON), "-c", code, *arguments],
        env={"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_each_tier_is_found_under_it_and_holds(place: Path, tier: str) -> None:
    ran = confined(place, OPEN, tier)
    assert ran.stdout.split() == [tier, "True"], ran.stderr


@pytest.mark.parametrize("call", ["unshare", "mount", "umount2", "pivot_root", "sethostname"])
def test_without_a_call_that_makes_jails_there_is_no_stronger_tier(place: Path, call: str) -> None:
    ran = confined(place, OPEN, "namespaces", without=frozenset({call}))
    assert "SandboxUnavailable" in ran.stderr


def test_without_them_all_the_weaker_tier_is_what_is_found(place: Path) -> None:
    """As under the runtime's own profile, on a node that lacks ours."""
    calls = frozenset({"unshare", "mount", "umount2", "pivot_root", "sethostname"})
    ran = confined(place, OPEN, "auto", without=calls)
    assert ran.stdout.split() == ["landlock", "True"], ran.stderr


REACH = """
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    libc.syscall(*map(ctypes.c_long, arguments))
    return errno.errorcode[ctypes.get_errno()]
def made(family, kind):
    try:
        socket.socket(family, kind).close()
        return "made"
    except OSError as exc:
        return errno.errorcode[exc.errno]
numbers = {"x86_64": (101, 250, 321, 175, 155), "aarch64": (117, 219, 280, 105, 41)}
ptrace, keyctl, bpf, init_module, pivot_root = numbers[os.uname().machine]
print(*[call(number, 0, 0, 0, 0, 0, 0) for number in (ptrace, keyctl, bpf, init_module, 425)])
print(*[made(family, socket.SOCK_DGRAM) for family in (1, 2, 10)])
print(*[made(family, socket.SOCK_RAW) for family in (17, 31, 38, 40)])
print(call(pivot_root, 0, 0, 0, 0, 0, 0))
"""


def test_what_it_does_not_name_does_not_exist(place: Path) -> None:
    told = confined(place, REACH).stdout.splitlines()
    assert told[0].split() == ["ENOSYS"] * 5
    assert told[1].split() == ["made"] * 3
    assert told[2].split() == ["ENOSYS"] * 4
    assert told[3] == "EPERM", "what it names is the kernel's to decide"
