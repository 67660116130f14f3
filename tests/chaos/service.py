"""One gunicorn of the platform: its master, its processes, and how they are started and ended."""

from __future__ import annotations

import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.chaos.patience import until

from csb_core.local import ports, processes

ROOT = Path(__file__).resolve().parents[2]

#: Where programs of the platform find these tests, and whatever else this process has been given.
IMPORTS = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))


@dataclass(slots=True, kw_only=True)
class Service:
    """A master that can be started again as it was, on the same ports."""

    name: str
    configuration: str
    app: str
    folder: Path
    env: Mapping[str, str]
    port: int = field(default_factory=ports.free_port)
    metrics_port: int = field(default_factory=ports.free_port)
    pid: int = 0

    def start(self) -> None:
        """Start the master; it is ready some time after."""
        self.pid = processes.spawn(
            [sys.executable, "-m", "gunicorn", "-c", f"python:{self.configuration}", self.app],
            log=self.log,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": IMPORTS,
                "PROMETHEUS_MULTIPROC_DIR": str(self.folder / "metrics"),
                processes.MARKER: str(self.folder),
                "CSB_SERVICE": self.name,
                "CSB_BIND": f"{ports.HOST}:{self.port}",
                "CSB_METRICS_BIND": f"{ports.HOST}:{self.metrics_port}",
                **self.env,
            },
        )

    @property
    def log(self) -> Path:
        """What its processes have written."""
        return self.folder / f"{self.name}.log"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{ports.HOST}:{self.port}"

    def await_ready(self) -> None:
        """Return when it says that it is ready; raises AssertionError with its log."""
        try:
            until(self.is_ready, timedelta(seconds=40), f"{self.name} gets ready")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{processes.tail(self.log, 40)}") from exc

    def is_ready(self) -> bool:
        """Whether /ready answers 200 now."""
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=3) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def processes(self) -> list[int]:
        """The master's processes that are alive now."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [pid for pid in map(int, text.split()) if processes.alive(pid)]

    def is_alive(self) -> bool:
        """Whether the master runs."""
        return bool(self.pid) and processes.alive(self.pid)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Signal a process of ours; False when it has just gone by itself."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
