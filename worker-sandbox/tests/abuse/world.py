"""What hostile code would like to reach: secrets, listeners, and somebody else's process."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Written apart, so that whoever looks for it in memory does not find the search itself.
CANARY = "CAN" + "ARY-"


def canary() -> str:
    """A secret that no output may contain."""
    return CANARY + secrets.token_hex(12)


@dataclass(slots=True, kw_only=True)
class Listeners:
    """Open ears in the host's namespaces, which note whatever comes."""

    tcp: int
    tcp6: int | None
    udp: int
    unix: str
    abstract: str
    heard: list[str]

    def told(self) -> list[str]:
        """What came since the last time somebody asked."""
        heard, self.heard = self.heard, []
        return heard


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[Listeners]:
    """Listen over TCP, UDP, and unix sockets with a name and without."""
    path, abstract = str(folder / "listener.sock"), f"abuse-{secrets.token_hex(6)}"
    named: dict[str, tuple[socket.AddressFamily, socket.SocketKind, Any]] = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        "tcp6": (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
        "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM, path),
        "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}"),
    }
    ears: dict[str, socket.socket] = {}
    for name, (family, kind, address) in named.items():
        ear = socket.socket(family, kind)
        try:
            ear.bind(address)
        except OSError:  # a machine without IPv6
            ear.close()
            continue
        if kind is socket.SOCK_STREAM:
            ear.listen(64)
        ears[name] = ear

    listeners = Listeners(
        tcp=ears["tcp"].getsockname()[1],
        tcp6=ears["tcp6"].getsockname()[1] if "tcp6" in ears else None,
        udp=ears["udp"].getsockname()[1],
        unix=path,
        abstract=abstract,
        heard=[],
    )
    stop = threading.Event()
    thread = threading.Thread(target=_listen, args=(ears, listeners, stop), name="abuse-ears")
    thread.start()
    try:
        yield listeners
    finally:
        stop.set()
        thread.join()
        for ear in ears.values():
            ear.close()


def _listen(ears: dict[str, socket.socket], listeners: Listeners, stop: threading.Event) -> None:
    with selectors.DefaultSelector() as selector:
        for name, ear in ears.items():
            selector.register(ear, selectors.EVENT_READ, name)
        while not stop.is_set():
            for key, _ in selector.select(timeout=0.05):
                ear = ears[key.data]
                if ear.type is socket.SOCK_STREAM:
                    ear.accept()[0].close()
                else:
                    ear.recv(65536)
                listeners.heard.append(key.data)


@contextlib.contextmanager
def bystander(secret: str) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's process of the same user, with a secret in its arguments and environment."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", "import sys; sys.stdin.read()", secret],
        env={"SECRET": secret},
        stdin=subprocess.PIPE,
    )
    assert process.stdin
    try:
        yield process
    finally:
        process.stdin.close()
        process.kill()
        process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All of it, and what a case is told of it."""

    listeners: Listeners
    bystander: subprocess.Popen[bytes]
    canaries: tuple[str, ...]
    file: Path
    home: Path  # another secret, in the home folder of whoever runs this
    marker: str  # part of every name that a case leaves anywhere
    key: int  # the key of whatever a case makes in System V's name spaces

    def told(self) -> dict[str, Any]:
        """The addresses of everything: hostile code knows what it wants."""
        return {
            "tcp": self.listeners.tcp,
            "tcp6": self.listeners.tcp6,
            "udp": self.listeners.udp,
            "unix": self.listeners.unix,
            "abstract": self.listeners.abstract,
            "victim": self.bystander.pid,
            "worker": os.getpid(),
            "file": str(self.file),
            "home": str(self.home),
            "marker": self.marker,
            "key": self.key,
        }


@contextlib.contextmanager
def built(folder: Path, worker_secrets: tuple[str, ...]) -> Iterator[World]:
    """Set everything up. `worker_secrets`: those that the worker itself already holds."""
    in_file, in_home, in_process = canary(), canary(), canary()
    file, home = folder / "secret.txt", Path.home() / f".abuse-{secrets.token_hex(6)}"
    file.write_text(in_file)
    home.write_text(in_home)
    with listening(folder) as listeners, bystander(in_process) as process:
        try:
            yield World(
                listeners=listeners,
                bystander=process,
                canaries=(in_file, in_home, in_process, *worker_secrets),
                file=file,
                home=home,
                marker=f"abuse-{secrets.token_hex(6)}",
                key=secrets.randbelow(0x3FFFFFFF) + 0x40000000,
            )
        finally:
            home.unlink()
