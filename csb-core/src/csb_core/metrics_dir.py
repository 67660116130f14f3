"""Where the processes of one gunicorn keep their numbers; for gunicorn's hooks, in its master.

It must not import prometheus_client: that looks at the environment when it is imported, and the
workers, which import it after the fork, must find the directory there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

#: A process that has just been started has no file there yet.
_YOUTH: Final = 60.0


def prepare(service: str) -> Path:
    """Make an empty directory for this master's processes and name it in the environment.

    It lies under PROMETHEUS_MULTIPROC_DIR when that is set, else under the system's own place for
    passing files. What masters that are gone left behind is removed.
    """
    parent = Path(os.environ.get(_VARIABLE) or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f"csb-metrics-{service}-"
    for left in parent.glob(f"{prefix}*"):
        if _is_abandoned(left, left.name.removeprefix(prefix)):
            shutil.rmtree(left, ignore_errors=True)

    directory = parent / f"{prefix}{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    os.environ[_VARIABLE] = str(directory)
    return directory


def child_exit(pid: int) -> None:
    """Forget the gauges of a process that has ended; its counters go on counting."""
    for left in Path(os.environ[_VARIABLE]).glob(f"gauge_live*_{pid}.db"):
        left.unlink(missing_ok=True)


def remove() -> None:
    """Remove the directory, when the master ends."""
    shutil.rmtree(os.environ[_VARIABLE], ignore_errors=True)


def _is_abandoned(directory: Path, master: str) -> bool:
    """Whether nobody writes there: a master's processes outlive it for a while, and still serve."""
    try:
        is_young = time.time() - directory.stat().st_mtime < _YOUTH
        pids = {file.stem.rpartition("_")[2] for file in directory.glob("*.db")}
    except FileNotFoundError:
        return False
    return not (is_young or any(map(_is_alive, {master, *pids})))


def _is_alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
