"""What the figures were taken on: without it a number says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from csb_core.local import postgres, redis

_OURS: Final = ("flask", "gunicorn", "gevent", "psycopg", "psycopg-pool", "redis", "orjson")
_THEIRS: Final = ("celery", "kombu", "sqlalchemy", "pgqueuer", "asyncpg", "huey")


def facts(run: Path) -> dict[str, Any]:
    """The machine, and how busy others kept it when we began."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "fdatasync_us": round(_fdatasync_micros(run), 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions(theirs: dict[str, str]) -> dict[str, str]:
    """The versions of what was measured."""
    return (
        {
            "python": platform.python_version(),
            "postgresql": _said(str(postgres.binary("postgres")), "--version").split()[2],
            "redis": _said(str(redis.binary()), "--version").split("v=")[1].split()[0],
        }
        | {name: version(name) for name in _OURS}
        | {name: theirs[name] for name in _THEIRS if name in theirs}
    )


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _fdatasync_micros(run: Path) -> float:
    """What one commit waits for on this disk, at the least."""
    path = run / "fdatasync"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        count, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < 0.3:
            os.pwrite(file, b"x" * 8192, count % 64 * 8192)
            os.fdatasync(file)
            count += 1
    finally:
        os.close(file)
        path.unlink()
    return passed / count * 1e6


def _said(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout
