"""The zygote: a small process without a secret that builds the root once and forks every jail.

It is exec'd, never forked from the worker; it has one thread, an empty environment, and one
descriptor to the worker. It reads no word from a jail. When the worker goes, so does it, and with
it its jails.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from worker_sandbox.jail import (
    anonymity,
    inside,
    kernel,
    landlock,
    namespaces,
    prepare,
    privileges,
    root,
)
from worker_sandbox.jail.plan import Plan

#: The pid of a new jail; with it travel six descriptors.
BORN: Final = struct.Struct("=q")
#: How a jail ended: exit code, signal, processor time in microseconds, peak memory in KiB.
ENDED: Final = struct.Struct("=iiqq")
LONGEST: Final = 4096

#: What users import most, loaded once for all; each page of it costs each fork. Extension modules
#: whose libraries the root lacks are here too: what is not loaded here cannot be.
PRELOADED: Final = (
    *("abc", "ast", "base64", "binascii", "bisect", "bz2", "calendar", "collections.abc"),
    *("contextlib", "copy", "csv", "ctypes", "dataclasses", "datetime", "decimal", "difflib"),
    *("email.message", "email.parser", "email.policy", "enum", "fnmatch", "fractions"),
    *("functools", "gzip", "hashlib", "heapq", "hmac", "html", "html.parser", "ipaddress"),
    *("itertools", "json", "linecache", "logging", "lzma", "math", "operator", "pathlib"),
    *("pprint", "quopri", "random", "re", "secrets", "shlex", "sqlite3", "statistics", "string"),
    *("stringprep", "struct", "tempfile", "textwrap", "threading", "time", "traceback", "typing"),
    *("unicodedata", "urllib.parse", "uuid", "warnings", "xml.etree.ElementTree", "zlib"),
    *("zoneinfo", "_strptime"),
)
#: What texts of others come in. The interpreter looks for a codec when it is first asked for, where
#: a jail may not be able to read; the tables of Asia are large, and mapped only.
ENCODINGS: Final = (
    *("ascii", "latin_1", "iso8859_1", "iso8859_2", "iso8859_5", "iso8859_7", "iso8859_9"),
    *("iso8859_15", "cp437", "cp850", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "koi8_r"),
    *("mac_roman", "utf_7", "utf_8", "utf_8_sig", "utf_16", "utf_16_le", "utf_16_be", "utf_32"),
    *("utf_32_le", "utf_32_be", "idna", "punycode", "unicode_escape", "raw_unicode_escape"),
    *("base64_codec", "hex_codec", "quopri_codec", "rot_13", "zlib_codec", "charmap"),
    *("big5", "cp932", "euc_jp", "euc_kr", "gb18030", "gbk", "shift_jis"),
)
#: The libraries that a wheel may expect of its host (manylinux, PEP 600); the root has none.
_OF_HOST: Final = (
    *("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "libdl.so.2"),
    *("librt.so.1", "libutil.so.1", "libz.so.1"),
)
#: Numeric libraries would start a thread for every core of the host.
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
#: How long the last jails may take to end.
_DYING_MS: Final = 1000
_M_ARENA_MAX: Final = -8


def main(control: int) -> NoReturn:
    """Serve the worker behind `control` until it is gone."""
    channel = socket.socket(fileno=kernel.high(control))
    plan = Plan.load(channel.recv(LONGEST))
    try:
        _preload(plan)
        house = _build(plan)
        zygote = _Zygote(channel, plan, prepare.record(house), _resident(house))
        layers = ",".join(_layers(house))
    except (OSError, KeyError) as exc:
        channel.send(f"failed {exc}".encode())
        os._exit(1)
    _settle(plan)
    channel.send(f"stands {layers}".encode())
    zygote.serve()
    zygote.end()
    os._exit(0)


def _preload(plan: Plan) -> None:
    for name in (*PRELOADED, *(f"encodings.{name}" for name in ENCODINGS)):
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # a Python built without it; then users do without it too
    for name in _OF_HOST if plan.packages else ():
        with contextlib.suppress(OSError):  # then no package here needs it
            ctypes.CDLL(name)
    libc = ctypes.CDLL(None)
    # One malloc arena: each further one would cost its threads' jail 64 MiB of address space.
    libc.mallopt(_M_ARENA_MAX, 1)


def _build(plan: Plan) -> prepare.House:
    """Everything that jails share, and then no privilege any more. Raises OSError."""
    proc = kernel.high(os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    readable, work = root.readable(plan.packages), []
    if plan.tier == "namespaces":
        namespaces.enter_own(plan)
    if plan.has("root"):
        root.build(plan.packages)
        readable, work = ["/"], [root.WORK]
    abi = landlock.version() if plan.has("landlock") else 0
    rules = landlock.rules(abi, read=readable, work=work, write=[root.NOWHERE]) if abi else None
    if os.geteuid() == 0 and plan.has("capabilities"):
        privileges.become(plan.uid)
    if plan.has("capabilities"):
        privileges.empty_own_sets()
    life, kept = (kernel.high(descriptor) for descriptor in os.pipe2(os.O_CLOEXEC))
    assert kept != life  # it stays open, and closes when the zygote dies
    return prepare.House(plan=plan, proc=proc, life=life, rules=rules)


def _resident(house: prepare.House) -> Callable[[], NoReturn]:
    """The program of every jail, with what it has to know."""
    room = inside.Room(
        job=prepare.JOB,
        result=prepare.RESULT,
        base_bytes=_address_space(house.proc),
        scratch=_scratch(house.plan),
        limited=house.plan.has("rlimits"),
        encode=inside.furnish(),
    )
    return functools.partial(inside.live, room)


def _scratch(plan: Plan) -> str | int | None:
    """Where scripts may write."""
    if plan.has("root"):
        return root.SCRATCH
    return prepare.LENT if plan.lends_scratch else None


def _settle(plan: Plan) -> None:
    """Be small and plain before the first fork: jails are copies of this process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if plan.has("scrub"):
        os.environ.clear()
    if plan.packages:
        sys.path.append(plan.packages)
        os.environ.update(_ONE_THREAD)
    sys.argv[:], sys.orig_argv[:] = [""], []  # argparse and others want a name, if an empty one
    anonymity.forget_place()
    # An import in a jail finds nothing of ours.
    for name in [name for name in sys.modules if name.startswith("worker_sandbox")]:
        del sys.modules[name]
    gc.collect()
    gc.disable()
    gc.freeze()


def _layers(house: prepare.House) -> list[str]:
    plan = house.plan
    layers = ["user-namespace"] if plan.tier == "namespaces" else []
    layers += [
        f"{name}-namespace" for name in ("pid", "ipc", "uts", "cgroup", "network") if plan.has(name)
    ]
    layers += ["root"] if plan.has("root") else []
    layers += [f"landlock-{house.rules.abi}"] if house.rules is not None else []
    return layers + [name for name in ("capabilities", "seccomp", "rlimits") if plan.has(name)]


def _address_space(proc: int) -> int:
    descriptor = os.open("self/statm", os.O_RDONLY, dir_fd=proc)
    try:
        return int(os.read(descriptor, 200).split()[0]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        os.close(descriptor)


class _Zygote:
    """Bears a jail for each message, and tells of each death."""

    def __init__(
        self,
        channel: socket.socket,
        plan: Plan,
        tape: list[kernel.Call],
        live: Callable[[], NoReturn],
    ) -> None:
        self._channel = channel
        self._flags = namespaces.flags(plan)
        self._tape = tape
        self._live = live
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
                elif not self._hear():
                    return

    def end(self) -> None:
        """Kill all jails and see them end: whoever would inherit them may bury nobody."""
        for process, (_, tell) in self._jails.items():
            os.close(tell)  # untold: how they end is our doing
            signal.pidfd_send_signal(process, signal.SIGKILL)
        self._poll.unregister(self._channel.fileno())
        while self._jails and (ended := self._poll.poll(_DYING_MS)):
            for process, _ in ended:
                self._poll.unregister(process)
                os.waitpid(self._jails.pop(process)[0], 0)

    def _hear(self) -> bool:
        """Bear the jail that is asked for; False when nobody will ask again."""
        asked, lent, _, _ = socket.recv_fds(self._channel, LONGEST, 1)
        if asked:
            self._bear(kernel.high(*lent) if lent else None)
        return bool(asked)

    def _bear(self, lent: int | None) -> None:
        job, result, stdout, stderr, ended = (os.pipe2(os.O_CLOEXEC) for _ in range(5))
        assert (job[0], result[1], stdout[1], stderr[1]) == _EXPECTED
        given: tuple[int, ...] = ()
        if lent is not None:
            given = (lent, os.dup2(lent, prepare.PIPES.free, inheritable=False))
        try:
            pid, pidfd = kernel.fork(self._flags)
        except OSError as exc:
            self._channel.send(f"failed {exc}".encode())
            _close(*job, *result, *stdout, *stderr, *ended, *given)
            return
        if pid == 0:
            prepare.become(self._tape, self._live)
        theirs = (job[1], result[0], stdout[0], stderr[0], ended[0], pidfd)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", theirs).tobytes())
        self._channel.sendmsg([BORN.pack(pid)], [rights])
        process, tell = kernel.high(pidfd), kernel.high(ended[1])
        _close(*job, *result, *stdout, *stderr, ended[0], *given)
        self._jails[process] = (pid, tell)
        self._poll.register(process, select.POLLIN)

    def _bury(self, process: int) -> None:
        pid, tell = self._jails.pop(process)
        self._poll.unregister(process)
        _, status, usage = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        cpu = round((usage.ru_utime + usage.ru_stime) * 1_000_000)
        with contextlib.suppress(BrokenPipeError):  # nobody asks any more
            os.write(tell, ENDED.pack(max(code, 0), max(-code, 0), cpu, usage.ru_maxrss))
        _close(process, tell)


#: Where the tape looks for the pipes of a new jail.
_EXPECTED: Final = (
    prepare.PIPES.job,
    prepare.PIPES.result,
    prepare.PIPES.stdout,
    prepare.PIPES.stderr,
)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
