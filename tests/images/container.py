"""Starts a program in an image's root as Kubernetes would, with the kernel's namespaces alone.

Read-only root, the image's user, no capability, no way to gain one, process 1 of its own; the
network is the host's, so that PostgreSQL and Redis are where they are. pivot_root(2) and not
chroot(2): a process in a chroot could make no user namespace, and the sandbox's jails want one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENTER = """
root=$1 directory=$2 uid=$3 gid=$4; shift 4
mount --bind "$root" "$root"
cd "$root"
mount -t proc -o nosuid,nodev,noexec proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev tmpfs dev/shm
mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev tmpfs tmp
mount -o remount,bind,ro "$root"
/usr/sbin/pivot_root . mnt
umount -l /mnt
cd "$directory"
exec /usr/bin/setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An image's root, mounted, with what the image says of itself."""

    root: Path
    config: Mapping[str, Any]

    def environ(self, given: Mapping[str, str]) -> dict[str, str]:
        """The image's own environment, and over it what is given."""
        return dict(line.split("=", 1) for line in self.config["Env"]) | dict(given)

    def command(self, *arguments: str) -> list[str]:
        """The image's entry point with these arguments, or its own ones."""
        return [*self.config["Entrypoint"], *(arguments or self.config["Cmd"] or ())]

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command line that starts `argv` inside."""
        uid, gid = self.config["User"].split(":")
        return [
            *("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"),
            *("--propagation", "private", "/bin/sh", "-euc", ENTER, "enter"),
            *(str(self.root), self.config["WorkingDir"], uid, gid),
            *argv,
        ]

    def run(
        self, *argv: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        done = subprocess.run(
            self.enter(argv),
            env=self.environ(env or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done

    @contextmanager
    def started(self, log: Path, env: Mapping[str, str]) -> Iterator[Service]:
        """Start the image's entry point; it is killed when the test leaves it running."""
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.enter(self.command()), env=self.environ(env), stdout=out, stderr=out
            )
        service = Service(process=process, log=log)
        try:
            yield service
        finally:
            if process.poll() is None:
                # Its end is that of its namespace; what `unshare` asked for is forgotten with root.
                service.signal(signal.SIGKILL)
                process.kill()
                process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running container."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, seconds: float) -> int:
        """Send the program SIGTERM; returns what it ended with."""
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal, as process 1 of its namespace."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for child in children.split():
            os.kill(int(child), number)

    def await_(self, ready: Any, seconds: float = 60) -> None:
        """Wait until `ready()` is true; fails with the end of the log."""
        deadline = time.monotonic() + seconds
        while not ready():
            ended = self.process.poll()
            assert ended is None, f"it ended with {ended}: {self.log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"not ready: {self.log.read_text()[-4000:]}"
            time.sleep(0.2)
