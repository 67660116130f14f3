"""The zygote: a small process without a secret that builds the root once and forks every jail.

It is exec'd, never forked from the worker; it has one thread, an empty environment, and one
descriptor to the worker. It reads no word from a jail. When the worker goes, so does it, and with
it its jails.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
from typing import Final, NoReturn

from worker_sandbox.jail import (
    kernel,
    landlock,
    namespaces,
    prepare,
    privileges,
    root,
    seccomp,
)
from worker_sandbox.jail.plan import Plan

#: pid of a new jail; behind it travel six descriptors.
BORN: Final = struct.Struct("=q")
#: How a jail ended: exit code, signal, processor time in microseconds, peak memory in KiB.
ENDED: Final = struct.Struct("=iiqq")
LONGEST: Final = 4096

#: What users import, loaded once for all; also the extension modules whose libraries the root lacks.
PRELOADED: Final = tuple(
    """
    __future__ abc argparse array ast base64 binascii bisect bz2 calendar cmath codecs collections
    collections.abc configparser contextlib contextvars copy csv ctypes dataclasses datetime
    decimal difflib email email.message email.parser email.policy encodings.idna enum fnmatch
    fractions functools glob gzip hashlib heapq hmac html html.entities html.parser inspect io
    ipaddress itertools json keyword linecache locale logging lzma math numbers operator os
    pathlib pprint queue quopri random re secrets shlex shutil signal sqlite3 stat statistics
    string stringprep struct tempfile textwrap threading time timeit token tokenize traceback
    types typing unicodedata unittest urllib.parse uuid warnings weakref xml.dom.minidom
    xml.etree.ElementTree xml.sax zipfile zlib zoneinfo _elementtree pyexpat _strptime _hashlib
    _sqlite3 _decimal _uuid _json _struct _csv _datetime _bisect _heapq _random _statistics
    """.split()
)
_M_ARENA_MAX: Final = -8


def main(control: int) -> NoReturn:
    """Serve the worker behind `control` until it is gone."""
    channel = socket.socket(fileno=fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, 64))
    os.close(control)
    plan = Plan.load(channel.recv(LONGEST))
    try:
        house = _build(plan)
        channel.send(_greeting(house).encode())
    except OSError as exc:
        channel.send(f"failed {exc}".encode())
        sys.exit(1)
    _Zygote(channel, house).serve()
    os._exit(0)


def _greeting(house: prepare.House) -> str:
    names = [name for name in _layers(house)]
    return f"stands {house.base_bytes >> 10} {house.landlock_abi} {','.join(names)}"


def _layers(house: prepare.House) -> list[str]:
    plan = house.plan
    layers = [
        f"{name}-namespace" for name in ("pid", "ipc", "uts", "cgroup", "network") if plan.has(name)
    ]
    if plan.tier == "namespaces":
        layers = ["user-namespace", *layers]
    if plan.has("root"):
        layers.append("root")
    if house.rules >= 0:
        layers.append(f"landlock-{house.landlock_abi}")
    layers += [name for name in ("capabilities", "seccomp", "rlimits") if plan.has(name)]
    return layers


def _build(plan: Plan) -> prepare.House:
    """Everything that jails share, and then no privilege any more. Raises OSError."""
    if plan.has("uid") and os.geteuid() == 0 and plan.tier != "namespaces":
        pass
    _preload()
    privileges.count_capabilities()
    filter_ = seccomp.assemble(kernel.MACHINE)
    nothing = _high(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
    proc = _high(os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    readable = root.readable(plan.packages)
    work: list[str] = []
    if plan.tier == "namespaces":
        namespaces.enter_own(plan)
        if plan.has("root"):
            root.build(plan.packages)
            readable, work = ["/"], [root.WORK]
    abi = landlock.version() if plan.has("landlock") else 0
    rules = _high(landlock.ruleset(abi, read=readable, work=work)) if abi else -1
    if os.geteuid() == 0 and plan.has("capabilities"):
        privileges.become(plan.uid)
    privileges.empty_capabilities()
    life = [_high(descriptor) for descriptor in os.pipe2(os.O_CLOEXEC)]
    if plan.packages:
        sys.path.append(plan.packages)
    gc.collect()
    gc.disable()
    gc.freeze()
    return prepare.House(
        plan=plan,
        proc=proc,
        nothing=nothing,
        life=life[0],
        filter=filter_,
        landlock_abi=abi,
        rules=rules,
        uid=os.geteuid(),
        gid=os.getegid(),
        base_bytes=_address_space(proc),
    )


def _preload() -> None:
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # a Python built without it; then users do without it too
    libc = ctypes.CDLL(None)
    # One malloc arena: each further one would cost its threads' jail 64 MiB of address space.
    libc.mallopt(_M_ARENA_MAX, 1)


def _address_space(proc: int) -> int:
    descriptor = os.open("self/statm", os.O_RDONLY, dir_fd=proc)
    try:
        return int(os.read(descriptor, 200).split()[0]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        os.close(descriptor)


def _high(descriptor: int) -> int:
    """Move a descriptor of ours out of the way of those of the jails."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(descriptor)
    return high


class _Zygote:
    """Bears a jail for each message, and tells of each death."""

    def __init__(self, channel: socket.socket, house: prepare.House) -> None:
        self._channel = channel
        self._house = house
        self._flags = namespaces.flags(house.plan)
        #: pidfd of a jail -> its pid and where to tell how it ended
        self._jails: dict[int, tuple[int, int]] = {}
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    def serve(self) -> None:
        """Until the worker closes its end, or dies."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != self._channel.fileno():
                    self._bury(descriptor)
                elif self._channel.recv(LONGEST):
                    self._bear()
                else:
                    return

    def _bear(self) -> None:
        job, result, stdout, stderr, ended = (os.pipe2(os.O_CLOEXEC) for _ in range(5))
        try:
            pid, pidfd = kernel.fork(self._flags)
        except OSError as exc:
            self._channel.send(f"failed {exc}".encode())
            for pair in (job, result, stdout, stderr, ended):
                _close(*pair)
            return
        if pid == 0:
            ends = prepare.Ends(job=job[0], result=result[1], stdout=stdout[1], stderr=stderr[1])
            prepare.become(self._house, ends)
        self._jails[pidfd] = (pid, ended[1])
        self._poll.register(pidfd, select.POLLIN)
        theirs = (job[1], result[0], stdout[0], stderr[0], ended[0], pidfd)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", theirs).tobytes())
        self._channel.sendmsg([BORN.pack(pid)], [rights])
        _close(job[0], result[1], stdout[1], stderr[1], *theirs[:5])

    def _bury(self, pidfd: int) -> None:
        pid, ended = self._jails.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        cpu = round((usage.ru_utime + usage.ru_stime) * 1_000_000)
        try:
            os.write(ended, ENDED.pack(max(code, 0), max(-code, 0), cpu, usage.ru_maxrss))
        except BrokenPipeError:
            pass  # nobody asks any more
        os.close(ended)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
