"""The yardsticks' environment: made from its own hashed lock, and made anew when that changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from bench.failure import BenchFailed
from bench.load import ROOT


def ensure(folder: Path) -> Path:
    """Return the environment's Python, with everything that the lock names."""
    lock = ROOT / "bench" / "requirements.txt"
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    stamp, python = folder / "lock.sha256", folder / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"bench: installing what {lock.relative_to(ROOT)} locks", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    _run(
        *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--require-hashes", "-r", str(lock)),
    )
    stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """The version of everything in the environment."""
    listed = _run(
        str(python), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"
    )
    return dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0:
        raise BenchFailed(f"{' '.join(argv[:4])} ... failed: {done.stdout}{done.stderr}"[-2000:])
    return done.stdout
