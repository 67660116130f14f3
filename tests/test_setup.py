"""`make setup`: a .venv that was half made, or that has lost something, is made anew."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.house import ROOT

LOCKS = ("requirements-dev.txt", "worker-sandbox/packages.txt", "csb-core/pyproject.toml")


@pytest.mark.parametrize(
    ("python", "locks", "lost", "anew"),
    [
        ("true", True, False, False),
        (None, True, False, True),
        ("false", False, False, True),
        ("true", False, False, False),
        ("true", True, True, True),
    ],
    ids=["whole", "python gone", "pip missing", "locks changed", "package gone"],
)
def test_setup_makes_anew_what_cannot_install(
    tmp_path: Path, *, python: str | None, locks: bool, lost: bool, anew: bool
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in LOCKS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to(shutil.which(python or "") or "/nonexistent/python")
    packages = bin_folder.parent / "lib" / "python3" / "site-packages"
    for name in ("flask", "added_by_hand", "__pycache__"):
        (packages / name).mkdir(parents=True)
    found = ["bin/python", *(f"lib/python3/site-packages/{name}" for name in ("celery", "flask"))]
    (bin_folder.parent / "installed").write_text("\n".join(found if lost else found[::2]) + "\n")
    digest = hashlib.sha256("".join(LOCKS).encode()).hexdigest()
    if locks:
        (bin_folder.parent / "locks").write_text(f"{tmp_path}\n{digest}  -\n")

    made = subprocess.run(
        ["make", "setup", "PYTHON=echo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ("-m venv --clear .venv" in made.stdout) == anew
    assert ("has lost lib/python3/site-packages/celery" in made.stdout) == lost
    assert ("setup: installing" in made.stdout) == (not locks or anew)
