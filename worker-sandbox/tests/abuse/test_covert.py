"""Two jails of two tenants that want to meet: one sends a bit, the other waits for it.

Outside, the same two programs do meet. What remains is what any two programs on one machine have,
time and caches, and no layer here claims to close that.
"""

from __future__ import annotations

import os
import socket
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from abuse import outside
from abuse.arena import Arena
from abuse.case import PROBE
from abuse.world import World
from worker_sandbox.job import Job, Limits

HELD_SECONDS = 0.6

FRAME = """
def main(p):
    end = time.monotonic() + p["held"]
    try:
        return bool(send(p, end) if p["role"] == "send" else receive(p, end))
    except Exception as exc:
        return type(exc).__name__
    finally:
        try:
            clean(p)
        except Exception:
            pass

def hold(end):
    while time.monotonic() < end:
        time.sleep(0.01)

def poll(end, look):
    while time.monotonic() < end:
        try:
            if look():
                return True
        except OSError:
            pass
        time.sleep(0.01)
    return False

def clean(p):
    pass
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """How a bit could pass: `send` shows it until the end, `receive` tells whether it came."""

    name: str
    code: str
    as_root: bool = False  # outside it takes the owner of the library's files

    def __str__(self) -> str:
        return self.name

    @property
    def source(self) -> str:
        return f"{PROBE}\n{FRAME}\n{textwrap.dedent(self.code)}"


CHANNELS = [
    Channel(
        name="lock-of-a-file",
        code="""
        import fcntl

        def send(p, end):
            file = open(os.__file__)
            fcntl.flock(file, fcntl.LOCK_EX)
            hold(end)

        def receive(p, end):
            def locked():
                try:
                    with open(os.__file__) as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
            return poll(end, locked)
        """,
    ),
    Channel(
        name="lock-of-a-device",
        code="""
        import fcntl

        def send(p, end):
            file = open("/dev/urandom")
            fcntl.flock(file, fcntl.LOCK_EX)
            hold(end)

        def receive(p, end):
            def locked():
                try:
                    with open("/dev/urandom") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
            return poll(end, locked)
        """,
    ),
    Channel(
        name="lock-of-a-range",
        code="""
        import fcntl, struct

        def send(p, end):
            file = open(os.__file__)
            fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
            hold(end)

        def receive(p, end):
            def locked():
                with open(os.__file__) as file:
                    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
                    kind = fcntl.fcntl(file, fcntl.F_GETLK, asked)
                return struct.unpack("hhqqi4x", kind)[0] != fcntl.F_UNLCK
            return poll(end, locked)
        """,
    ),
    Channel(
        name="lease-of-a-file",
        as_root=True,
        code="""
        import fcntl

        def send(p, end):
            file = os.open(os.__file__, os.O_RDONLY)
            fcntl.fcntl(file, 1024, fcntl.F_RDLCK)
            hold(end)

        def receive(p, end):
            # Nobody can have it for writing while somebody reads: then the lease is refused.
            def leased():
                file = os.open(os.__file__, os.O_RDONLY)
                try:
                    fcntl.fcntl(file, 1024, fcntl.F_WRLCK)
                except BlockingIOError:
                    return True
                finally:
                    os.close(file)
            return poll(end, leased)
        """,
    ),
    Channel(
        name="futex-in-a-shared-page",
        code="""
        import ctypes

        def page():
            # The same page of the same file, wherever it is mapped: the kernel's key is the inode.
            file = os.open(os.__file__, os.O_RDONLY)
            library = libc()
            library.mmap.restype = ctypes.c_void_p
            return library.mmap(None, 4096, 1, 1, file, 0)

        def send(p, end):
            address = page()
            while time.monotonic() < end:
                raw(202, address, 1, 1, 0, 0, 0)
                time.sleep(0.001)

        def receive(p, end):
            address = page()
            word = ctypes.c_uint32.from_address(address).value
            wait = (ctypes.c_long * 2)(0, 50_000_000)
            def woken():
                return raw(202, address, 0, word, ctypes.addressof(wait), 0, 0) == 0
            return poll(end, woken)
        """,
    ),
    Channel(
        name="name-without-a-file",
        code="""
        import socket

        def send(p, end):
            ear = socket.socket(socket.AF_UNIX)
            ear.bind("\\0" + p["marker"])
            ear.listen()
            hold(end)

        def receive(p, end):
            def reached():
                with socket.socket(socket.AF_UNIX) as mouth:
                    mouth.connect("\\0" + p["marker"])
                return True
            return poll(end, reached)
        """,
    ),
    Channel(
        name="port",
        code="""
        import socket

        def send(p, end):
            ear = socket.create_server(("127.0.0.1", p["port"]))
            hold(end)

        def receive(p, end):
            def reached():
                socket.create_connection(("127.0.0.1", p["port"]), 0.1).close()
                return True
            return poll(end, reached)
        """,
    ),
    Channel(
        name="memory-of-system-v",
        code="""
        def send(p, end):
            raw(29, p["key"], 4096, 0o1666)
            hold(end)

        def receive(p, end):
            return poll(end, lambda: raw(29, p["key"], 0, 0) >= 0)

        def clean(p):
            raw(31, raw(29, p["key"], 0, 0), 0, 0)
        """,
    ),
    Channel(
        name="queue-of-posix",
        code="""
        def send(p, end):
            raw(240, p["marker"].encode() + b"\\0", 0o102, 0o666, 0)
            hold(end)

        def receive(p, end):
            return poll(end, lambda: raw(240, p["marker"].encode() + b"\\0", 0, 0, 0) >= 0)

        def clean(p):
            raw(241, p["marker"].encode() + b"\\0")
        """,
    ),
    Channel(
        name="file-at-a-known-place",
        code="""
        PLACES = ("/tmp", "/dev/shm", "/var/tmp", "/job", "/job/scratch", ".")

        def send(p, end):
            for place in PLACES:
                attempt(place, write, f"{place}/{p['marker']}")
            hold(end)

        def receive(p, end):
            paths = [f"{place}/{p['marker']}" for place in PLACES]
            return poll(end, lambda: any(map(os.path.exists, paths)))

        def clean(p):
            for place in PLACES:
                if os.path.exists(f"{place}/{p['marker']}"):
                    os.unlink(f"{place}/{p['marker']}")
        """,
    ),
    Channel(
        name="watched-folder",
        code="""
        def send(p, end):
            while time.monotonic() < end:
                os.listdir(os.path.dirname(os.__file__))
                time.sleep(0.005)

        def receive(p, end):
            watch = raw(294, 0o4000)
            raw(254, watch, os.path.dirname(os.__file__).encode() + b"\\0", 0x21)
            return poll(end, lambda: bool(os.read(watch, 4096)))
        """,
    ),
    Channel(
        name="who-is-there",
        code="""
        def send(p, end):
            import ctypes
            ctypes.CDLL(None).prctl(15, b"abuse-here", 0, 0, 0)
            hold(end)

        def receive(p, end):
            def seen_by_name():
                for pid in os.listdir("/proc"):
                    if pid.isdigit():
                        try:
                            if "abuse-here" in read(f"/proc/{pid}/comm"):
                                return True
                        except OSError:
                            pass
            return poll(end, seen_by_name)
        """,
    ),
    Channel(
        name="time-of-a-process",
        code="""
        def send(p, end):
            while time.monotonic() < end:
                pass

        def receive(p, end):
            # The clock of somebody else's processor time: (~pid << 3) | 2.
            before = {}
            def runs():
                for pid in p["pids"]:
                    try:
                        now = time.clock_gettime((~pid << 3) | 2)
                    except OSError:
                        continue
                    if now - before.setdefault(pid, now) > 0.02:
                        return True
            return poll(end, runs)
        """,
    ),
]

every_channel = pytest.mark.parametrize("channel", CHANNELS, ids=str)


def both(told: dict[str, Any], run: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Run sender and receiver at the same time; returns what each said."""
    said: list[Any] = [None, None]

    def play(number: int, role: str) -> None:
        # Who waits is there first and stays longer.
        held = HELD_SECONDS * (1 if role == "send" else 0.8)
        said[number] = run({**told, "role": role, "held": held})

    threads = [
        threading.Thread(target=play, args=pair, name=f"abuse-{pair[1]}")
        for pair in enumerate(("send", "receive"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def told_of(here: World, *, port: int) -> dict[str, Any]:
    return {**here.told(), "port": port, "pids": [*range(2, 32_768)]}


@every_channel
def test_the_two_meet_outside(channel: Channel, here: World) -> None:
    if channel.as_root and os.geteuid() != 0:
        pytest.skip("succeeds only for root")
    told = told_of(here, port=_free_port())
    told |= {"key": here.key ^ 0x10000, "marker": f"{here.marker}-outside"}
    _, received = both(told, lambda given: outside.run(channel.source, given, patience=20).evidence)
    assert received is True, "proves nothing"


@every_channel
def test_two_jails_do_not_meet(channel: Channel, arena: Arena) -> None:
    told = told_of(arena.world, port=_free_port())
    limits = Limits(timeout_seconds=5.0, memory_limit_mb=128, cpu_limit=1.0)

    def run(given: dict[str, Any]) -> Any:
        job = Job(kind="script", code=channel.source, input=given, limits=limits)
        return arena.run(job).value

    with arena.watched():
        _, received = both(told, run)
    assert received is not True, "one tenant reads another's bits"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
