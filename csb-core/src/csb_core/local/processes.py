"""Processes of ours on this machine: find them, know them again, end them, and touch no others."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
    """Return as soon as `up()`; raise NotStarted, with the log's end, when the process is gone."""
    deadline = time.monotonic() + timeout.total_seconds()
    while not up():
        if not alive(pid) or time.monotonic() > deadline:
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


def end(
    pid: int,
    ours: Callable[[int], bool],
    *,
    signals: Sequence[tuple[signal.Signals, timedelta]],
) -> bool:
    """Send each signal in turn, waiting after each, until the process is gone; say if it is.

    `ours` is asked while the process is held by a descriptor, so that a pid which was given to
    somebody else meanwhile is never signalled.
    """
    with _held(pid) as handle:
        if handle is None or not ours(pid):
            return True
        for number, patience in signals:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if _gone(handle, patience):
                alive(pid)
                return True
        return False


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log file, or an empty text when there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


@contextmanager
def _held(pid: int) -> Iterator[int | None]:
    try:
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _gone(handle: int, patience: timedelta) -> bool:
    return bool(select.select([handle], [], [], patience.total_seconds())[0])


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []  # gone meanwhile, or somebody else's


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        pid = int(_status(pid)[1]) if _status(pid) else 0


def _state(pid: int) -> str | None:
    fields = _status(pid)
    return fields[0] if fields else None


def _status(pid: int) -> list[str]:
    """State, parent, ... of a process as proc(5) lists them after its name."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
