"""Packages are an operator's: the same in every jail, read-only, and found by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker_sandbox.jail.plan import TierName
from worker_sandbox.job import Job, Limits, Run
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings


def run(sandbox: Sandbox, code: str) -> Run:
    limits = Limits(timeout_seconds=10, memory_limit_mb=64)
    return sandbox.run(Job(kind="script", code=code, input=None, limits=limits))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)  # those of another user have to read it
    package = tmp_path / "packages" / "extra"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from extra.inner import answer\n")
    (package / "inner.py").write_text("def answer(): return 42\n")
    return package.parent


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_a_package_is_imported_and_cannot_be_changed(tier: TierName, packages: Path) -> None:
    settings = SandboxSettings(tier=tier, pool_size=1, packages=packages)
    with Sandbox.open(settings) as sandbox:
        assert run(sandbox, "import extra\ndef main(p): return extra.answer()").value == 42

        change = f"def main(p): open({str(packages / 'extra' / 'inner.py')!r}, 'w')"
        assert run(sandbox, change).exit_reason == "error"
        assert sandbox.self_test().held

    assert "42" in (packages / "extra" / "inner.py").read_text()


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_without_the_setting_there_is_none(tier: TierName, packages: Path) -> None:
    with Sandbox.open(SandboxSettings(tier=tier, pool_size=1)) as sandbox:
        code = f"import sys\ndef main(p):\n sys.path.append({str(packages)!r})\n import extra"
        assert run(sandbox, code).exit_reason == "error"


def test_the_standard_library_is_there_loaded_or_not() -> None:
    with Sandbox.open(SandboxSettings(pool_size=1)) as sandbox:
        for name in ("argparse", "unittest.mock", "sqlite3", "zoneinfo", "asyncio", "tomllib"):
            assert run(sandbox, f"import {name}\ndef main(p): return 1").value == 1, name
        zone = "import zoneinfo\ndef main(p): return str(zoneinfo.ZoneInfo('Europe/Zurich'))"
        if Path("/usr/share/zoneinfo/Europe/Zurich").exists():
            assert run(sandbox, zone).value == "Europe/Zurich"
