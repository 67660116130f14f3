"""A PgBouncer in transaction mode in front of the test server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from csb_core.local import ports
from csb_core.testing import PASSWORD, ROLES

#: Few server connections, so that clients really share them.
CONFIGURATION: Final = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = 4
max_client_conn = 300
auth_type = scram-sha-256
auth_file = {folder}/users.txt
logfile =
pidfile =
query_wait_timeout = 30
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBouncer:
    """A running PgBouncer."""

    port: int

    def through(self, url: str) -> str:
        """The same database as the same role, by way of this PgBouncer."""
        parts = urlsplit(url)
        return parts._replace(netloc=f"{parts.username}:{PASSWORD}@127.0.0.1:{self.port}").geturl()


def find_program() -> Path | None:
    """Where pgbouncer is installed; Debian puts it where ordinary users do not look."""
    found = shutil.which(
        "pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )
    return Path(found) if found else None


@contextmanager
def running(program: Path, folder: Path, *, server: int) -> Iterator[PgBouncer]:
    """Run it in front of the server on this port until the block ends."""
    port = ports.free_port()
    (folder / "pgbouncer.ini").write_text(
        CONFIGURATION.format(server=server, port=port, folder=folder)
    )
    (folder / "users.txt").write_text("".join(f'"{role}" "{PASSWORD}"\n' for role in ROLES))
    folder.chmod(0o755)  # it drops root's rights before it reads its users
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    log = folder / "pgbouncer.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [str(program), *user, str(folder / "pgbouncer.ini")], stdout=stderr, stderr=stderr
        ) as process,
    ):
        try:
            _await_start(process, port, log)
            yield PgBouncer(port=port)
        finally:
            process.kill()


def _await_start(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"pgbouncer did not start: {log.read_text()}")
