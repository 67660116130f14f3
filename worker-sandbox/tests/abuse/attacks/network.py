"""Family 5: network, IPC and covert channels. Nobody hears a jail, and no jail hears another.

Two jails that try to hear each other stand in `test_covert.py`.
"""

from __future__ import annotations

import os

from abuse.case import Case
from abuse.checks import gave, refused, succeeded
from abuse.outside import Ending
from worker_sandbox.job import Run

RAW_ADDRESSES = """
import ctypes, struct

def ipv4(port):
    return struct.pack("<H", 2) + struct.pack(">H", port) + bytes([127, 0, 0, 1]) + bytes(8)

def unix(path):
    return struct.pack("<H", 1) + path
"""


def every_family(ending: Ending) -> None:
    assert {"1.1", "1.2", "2.1", "2.2", "16.3"} <= set(ending.evidence["open"]), ending


def not_the_host(run: Run) -> None:
    assert run.value["name"] != os.uname().nodename, run


CASES = [
    Case(
        name="connect-to-the-host",
        code="""
        import socket

        def main(p):
            attempt("tcp", lambda: socket.create_connection(("127.0.0.1", p["tcp"]), 1).close())
            attempt("any", lambda: socket.create_connection(("0.0.0.0", p["tcp"]), 1).close())
            attempt("name", lambda: socket.create_connection(("localhost", p["tcp"]), 1).close())
            udp = ("127.0.0.1", p["udp"])
            attempt("udp", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", udp))
            attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(p["unix"]))
            nameless = "\\0" + p["abstract"]
            attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect(nameless))
            attempt("urllib", lambda: fetch(p["tcp"]))
            return seen

        def fetch(port):
            import http.client, urllib.request
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
            except http.client.HTTPException:
                return "reached"  # it hangs up on everybody
            except ConnectionResetError:
                return "reached"
        """,
        denied=("tcp", "any", "name", "udp", "unix", "abstract", "urllib"),
    ),
    Case(
        name="connect-without-the-library",
        code=RAW_ADDRESSES
        + """
def main(p):
    attempt("tcp", lambda: raw(42, raw(41, 2, 1, 0), ipv4(p["tcp"]), 16))
    attempt("udp", lambda: raw(44, raw(41, 2, 2, 0), b"x", 1, 0, ipv4(p["udp"]), 16))
    attempt("unix", lambda: raw(42, raw(41, 1, 1, 0), unix(p["unix"].encode()), 2 + len(p["unix"])))
    nameless = b"\\0" + p["abstract"].encode()
    attempt("abstract", lambda: raw(42, raw(41, 1, 1, 0), unix(nameless), 2 + len(nameless)))
    attempt("fast open", lambda: raw(44, raw(41, 2, 1, 0), b"x", 1, 0x20000000, ipv4(p["tcp"]), 16))
    attempt("mptcp", lambda: raw(42, raw(41, 2, 1, 262), ipv4(p["tcp"]), 16))
    return seen
""",
        denied=("tcp", "udp", "unix", "abstract", "fast open"),
        inside=refused("mptcp"),
    ),
    Case(
        name="listen",
        code="""
        import socket

        def main(p):
            attempt("tcp", lambda: listening(socket.AF_INET, ("0.0.0.0", 0)))
            attempt("unix", lambda: listening(socket.AF_UNIX, p["marker"]))
            attempt("abstract", lambda: listening(socket.AF_UNIX, "\\0" + p["marker"]))
            return seen

        def listening(family, address):
            ear = socket.socket(family)
            ear.bind(address)
            ear.listen()
            return "listens"
        """,
        denied=("tcp", "unix", "abstract"),
    ),
    Case(
        name="every-family-of-sockets",
        code="""
        import socket

        def main(p):
            found = []
            for family in range(48):
                for kind in (1, 2, 3, 5):
                    try:
                        socket.socket(family, kind, 0).close()
                    except OSError:
                        continue
                    found.append(f"{family}.{kind}")
            for family in (16, 17, 38, 40):  # netlink, packet, alg, vsock
                for kind in (1, 2, 3, 5):
                    try:
                        os.close(raw(41, family, kind, 0))
                    except OSError:
                        continue
                    found.append(f"{family}.{kind}")
            return {"open": found}
        """,
        inside=gave({"open": []}),
        outside=every_family,
    ),
    Case(
        name="send-descriptors",
        code="""
        import array, socket

        def main(p):
            attempt("inet pair", lambda: socket.socketpair(socket.AF_INET))
            attempt("other", lambda: raw(53, 1, 5, 0, place()))
            one, other = socket.socketpair()
            attempt("connect", one.connect, p["unix"])
            named = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]
            attempt("sendto", named.sendto, b"x", "\\0" + p["abstract"])
            attempt("bind", named.bind, "\\0" + p["marker"])
            return seen

        def place():
            import ctypes
            global kept
            kept = (ctypes.c_int * 2)()
            return ctypes.addressof(kept)
        """,
        ends=("ok", "error"),  # without even a pair of sockets
        inside=refused("connect", "sendto", "bind"),
        outside=succeeded("bind"),
    ),
    Case(
        name="ask-for-a-name",
        code="""
        import socket

        def main(p):
            attempt("localhost", lambda: socket.getaddrinfo("localhost", p["tcp"])[0][4][1])
            attempt("dns", lambda: socket.gethostbyname("example.com"))
            attempt("interfaces", lambda: len(socket.if_nameindex()))
            return seen
        """,
        denied=("interfaces",),
        inside=refused("dns"),
    ),
    Case(
        name="shared-memory-of-system-v",
        code="""
        def main(p):
            key = p["key"]
            attempt("shmget", lambda: raw(31, raw(29, key, 4096, 0o1666), 0, 0))
            attempt("semget", lambda: raw(66, raw(64, key, 1, 0o1666), 0, 0, 0))
            attempt("msgget", lambda: raw(71, raw(68, key, 0o1666), 0, 0))
            return seen
        """,
        denied=("shmget", "semget", "msgget"),
    ),
    Case(
        name="queues-of-posix",
        code="""
        def main(p):
            name = p["marker"].encode() + b"\\0"
            attempt("mq_open", lambda: os.close(raw(240, name, 0o102, 0o600, 0)))
            attempt("mq_unlink", raw, 241, name)
            return seen
        """,
        denied=("mq_open", "mq_unlink"),
    ),
    Case(
        name="shared-memory-of-posix",
        code="""
        from multiprocessing import shared_memory

        def main(p):
            attempt("shm", lambda: make(p["marker"]))
            attempt("file", lambda: write("/dev/shm/" + p["marker"] + "f"))
            if seen["file"][0] == "done":
                os.unlink("/dev/shm/" + p["marker"] + "f")
            return seen

        def make(name):
            import _posixshmem
            os.close(_posixshmem.shm_open("/" + name, os.O_CREAT | os.O_RDWR, 0o600))
            _posixshmem.shm_unlink("/" + name)
        """,
        denied=("shm", "file"),
        ends=("ok", "error"),  # without the module
    ),
    Case(
        name="keyrings",
        code="""
        def main(p):
            attempt("session", raw, 250, 0, -3, 1)
            attempt("user", raw, 250, 0, -4, 1)
            attempt("join", raw, 250, 1, 0)
            attempt("add", raw, 248, b"user\\0", p["marker"].encode() + b"\\0", b"x", 1, -2)
            attempt("describe", raw, 250, 6, -3, 0, 0)
            return seen
        """,
        denied=("session", "user", "join", "add", "describe"),
    ),
    Case(
        name="locks-and-leases",
        code="""
        import fcntl

        def main(p):
            file = open(os.__file__, "rb")
            attempt("flock", fcntl.flock, file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            attempt("raw flock", raw, 73, file.fileno(), 2 | 4)
            # Taking one by F_SETLK is said to be done, and not done; what would tell is F_GETLK.
            attempt("lockf", fcntl.fcntl, file, fcntl.F_GETLK, lock())
            attempt("ofd", fcntl.fcntl, file, 37, lock())
            attempt("lease", fcntl.fcntl, file, 1024, fcntl.F_RDLCK)
            folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
            attempt("notify", fcntl.fcntl, folder, 1026, 1)
            attempt("owner", fcntl.fcntl, file, 8, os.getpid())
            return seen

        def lock():
            import struct
            return struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0)
        """,
        denied=("flock", "raw flock", "lockf", "ofd", "notify"),
        inside=refused("lease"),  # outside it takes the owner of the file
    ),
    Case(
        name="watch-the-files",
        code="""
        def main(p):
            watch = attempt("inotify", raw, 294, 0)
            attempt("old inotify", raw, 253)
            folder = os.path.dirname(os.__file__).encode() + b"\\0"
            attempt("add", raw, 254, watch or 0, folder, 0x20)
            attempt("fanotify", raw, 300, 0, 0)
            return seen
        """,
        denied=("inotify", "old inotify", "add", "fanotify"),
        as_root=True,
    ),
    Case(
        name="name-the-machine",
        code="""
        import socket

        def main(p):
            attempt("host", socket.sethostname, p["marker"])
            attempt("raw host", raw, 170, b"abuse", 5)
            attempt("domain", raw, 171, b"abuse", 5)
            seen["name"] = os.uname().nodename
            return seen
        """,
        denied=("host", "raw host", "domain"),
        inside=not_the_host,
        apart=True,
    ),
    Case(
        name="set-the-clock",
        code="""
        import ctypes

        def main(p):
            now = (ctypes.c_long * 2)(int(time.time()), 0)
            if p.get("outside"):  # nobody's clock is moved: it may ask, and that is enough
                seen["may"] = ["done", has_the_right()]
                return seen
            attempt("may", lambda: has_the_right() or refuse())
            attempt("set", raw, 227, 0, ctypes.byref(now))
            attempt("settimeofday", raw, 164, ctypes.byref(now), 0)
            attempt("adjust", lambda: raw(159, ctypes.byref((ctypes.c_long * 32)(1))))
            attempt("clock_adjtime", lambda: raw(305, 0, ctypes.byref((ctypes.c_long * 32)(1))))
            return seen

        def refuse():
            raise PermissionError

        def has_the_right():
            header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            raw(125, ctypes.byref(header), ctypes.byref(data))
            return bool(data[0] >> 25 & 1)
        """,
        given_outside={"outside": True},
        denied=("may",),
        inside=refused("set", "settimeofday", "adjust", "clock_adjtime"),
        as_root=True,
    ),
    Case(
        name="rings-instead-of-calls",
        code="""
        import ctypes

        def main(p):
            settings = (ctypes.c_uint32 * 30)()
            attempt("io_uring", lambda: os.close(raw(425, 4, ctypes.byref(settings))))
            attempt("aio", lambda: raw(206, 1, ctypes.byref(ctypes.c_ulong())))
            return seen
        """,
        denied=("io_uring", "aio"),
    ),
]
