"""Processes of ours on this machine: find them, know them again, end them, and touch no others."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

from csb_core.errors import BridgeError

#: Every process of a running platform carries this variable; its value is the run directory.
MARKER = "CSB_SUPERVISED_IN"

PROC = Path("/proc")


class NotStarted(BridgeError):
    """A program did not come up; the text ends with the last lines of its log."""

    code = "not_started"


def spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> int:
    """Start a program in a session of its own, its output appended to `log`; return its pid."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        argv[0],
        list(argv),
        dict(os.environ if env is None else env),
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def await_start(
    pid: int, up: Callable[[], bool], *, log: Path, timeout: timedelta = timedelta(seconds=60)
) -> None:
    """Return as soon as `up()` says so.

    Raises NotStarted with the end of the log when the process is gone, or not up in time; then
    it is killed.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    while not up():
        if not alive(pid) or time.monotonic() > deadline:
            end([pid], lambda _: True, signals=[(signal.SIGKILL, timedelta(seconds=5))])
            raise NotStarted(f"it did not start; the end of {log}:\n{tail(log)}")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process still runs; a dead child of ours is reaped on the way."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return _state(pid) not in {None, "Z", "X"}


def command(pid: int) -> tuple[str, ...]:
    """The command line of a process, empty when there is no such process."""
    try:
        return tuple((PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")[:-1])
    except OSError:
        return ()


def marked(run: Path) -> list[int]:
    """The processes that carry the marker of this run directory, without our own ancestors."""
    entry = f"{MARKER}={run}".encode()
    spared = set(_ancestors())
    return [pid for pid in _pids() if pid not in spared and entry in _environment(pid)]


def at_work_in(directory: Path) -> list[int]:
    """The processes whose working directory this is."""
    return [pid for pid in _pids() if _working_directory(pid) == str(directory)]


def parent(pid: int) -> int | None:
    """The process that this one would report to, None when it is gone."""
    fields = _status(pid)
    return int(fields[1]) if fields else None


def end(
    pids: Iterable[int],
    ours: Callable[[int], bool],
    *,
    signals: Sequence[tuple[signal.Signals, timedelta]],
) -> bool:
    """Send each signal in turn, waiting after each, until all are gone; say if they are.

    `ours` is asked while the process is held by a descriptor, so that a pid which was given to
    somebody else meanwhile is never signalled.
    """
    with ExitStack() as stack:
        held = [one for pid in pids if (one := _hold(pid, stack)) and ours(pid)]
        for number, patience in signals:
            for handle in held:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            held = _await_end(held, patience)
            if not held:
                break
        return not held


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log file, or an empty text when there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _hold(pid: int, stack: ExitStack) -> int | None:
    """A descriptor that stays with this very process; None when it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        return None
    stack.callback(os.close, handle)
    return handle


def _await_end(handles: list[int], patience: timedelta) -> list[int]:
    """Those that still run when the patience is over."""
    deadline = time.monotonic() + patience.total_seconds()
    while handles and (left := deadline - time.monotonic()) > 0:
        gone = select.select(handles, [], [], left)[0]
        handles = [handle for handle in handles if handle not in gone]
    return handles


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []  # gone meanwhile, or somebody else's


def _working_directory(pid: int) -> str:
    try:
        return str((PROC / str(pid) / "cwd").readlink())
    except OSError:
        return ""  # gone meanwhile, or somebody else's


def _ancestors() -> Iterator[int]:
    pid: int | None = os.getpid()
    while pid:
        yield pid
        pid = parent(pid)


def _state(pid: int) -> str | None:
    fields = _status(pid)
    return fields[0] if fields else None


def _status(pid: int) -> list[str]:
    """State, parent, ... of a process as proc(5) lists them after its name."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
