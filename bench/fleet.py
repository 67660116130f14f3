"""The programs of a run: started with exactly what they need, awaited, and ended."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench.load import ROOT
from bench.servers import Platform, Servers
from csb_core.local import processes
from csb_core.local.fleet import LIMITS
from csb_core.local.ports import HOST, free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that runs: its process, with all descendants in one group, and its port."""

    pid: int
    log: Path
    port: int = 0

    def said(self, word: str) -> bool:
        """Whether this stands in its log."""
        return word in self.log.read_text(errors="replace")


@contextmanager
def program(
    servers: Servers,
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    up: Callable[[Program], bool],
    port: int = 0,
) -> Iterator[Program]:
    """Run a program until the block is left; its log is kept under the run's folder."""
    log = servers.run / "log" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CSB_", "AWS_"))}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    marked = {processes.MARKER: os.environ[processes.MARKER], "PYTHONPATH": path}
    pid = processes.spawn(argv, log=log, env=inherited | marked | dict(env))
    started = Program(pid=pid, log=log, port=port)
    try:
        processes.await_start(pid, lambda: up(started), log=log)
        yield started
    finally:
        _end(pid)


def _end(pid: int) -> None:
    """End the whole group: politely, and five seconds later without asking."""
    processes.end([pid], lambda _: True, signals=[(signal.SIGTERM, timedelta(seconds=5))])
    deadline = time.monotonic() + 5
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:  # until nobody of the group is left
            os.killpg(pid, signal.SIGKILL)
            processes.alive(pid)
            time.sleep(0.01)


@contextmanager
def api(servers: Servers, platform: Platform) -> Iterator[Program]:
    """The API under its own gunicorn configuration, all at its defaults but the rate limits."""
    port = free_port()
    env = _service(servers, "api-service", port) | dict(LIMITS)
    env["CSB_DATABASE_URL"] = platform.urls.api
    argv = gunicorn(sys.executable, "api_service.wsgi:app", "python:api_service.gunicorn_conf")
    with program(servers, "api", argv, env=env, up=answers("/ready"), port=port) as started:
        yield started


@contextmanager
def worker(
    servers: Servers, platform: Platform, *, hold: float = 0, app: str = "bench.noop_worker:app"
) -> Iterator[Program]:
    """The worker under its own gunicorn configuration, at its defaults; its action does nothing.

    With `hold`, the first attempt at a request takes so many seconds.
    """
    port = free_port()
    env = _service(servers, "worker-bench", port) | {"BENCH_HOLD_SECONDS": str(hold)}
    env["CSB_DATABASE_URL"] = platform.urls.aws
    argv = gunicorn(sys.executable, app, "python:csb_core.worker.gunicorn_conf")
    with program(servers, "worker", argv, env=env, up=answers("/ready"), port=port) as started:
        yield started


@contextmanager
def sandbox(servers: Servers, platform: Platform) -> Iterator[Program]:
    """The sandbox worker under its own gunicorn configuration, at its defaults."""
    port = free_port()
    env = _service(servers, "worker-sandbox", port)
    env["CSB_DATABASE_URL"] = platform.urls.sandbox
    configuration = "python:worker_sandbox.gunicorn_conf"
    argv = gunicorn(sys.executable, "worker_sandbox.main:app", configuration)
    with program(servers, "sandbox", argv, env=env, up=answers("/ready"), port=port) as started:
        yield started


def gunicorn(python: str, app: str, configuration: str) -> list[str]:
    """The command that serves an app."""
    return [python, "-m", "gunicorn", "-c", configuration, app]


def answers(path: str) -> Callable[[Program], bool]:
    """Whether an HTTP server is there and answers 200 to this path."""

    def up(started: Program) -> bool:
        connection = http.client.HTTPConnection(HOST, started.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return up


def said(word: str) -> Callable[[Program], bool]:
    """Whether a program has written this into its log."""
    return lambda started: started.said(word)


#: The API's processes, and so those of every app that it is compared with.
PROCESSES: Final = 2


def _service(servers: Servers, name: str, port: int) -> dict[str, str]:
    return {
        "CSB_SERVICE": name,
        "CSB_BIND": f"{HOST}:{port}",
        "CSB_METRICS_BIND": f"{HOST}:{free_port()}",
        "CSB_REDIS_URL": servers.redis.url,
        "PROMETHEUS_MULTIPROC_DIR": str(servers.run / "metrics"),
    }
