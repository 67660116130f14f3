"""Positive controls: the same code where nothing holds it, as far as the machine can bear it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNNER = Path(__file__).with_name("naive_runner.py")
KEPT = 8 << 20

# Namespaces of its own, so that what the control does ends with it.
APART = (
    *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"),
    *("--mount-proc", "--net", "--ipc", "--uts"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a control ended."""

    answer: bytes  # all that came over the answering descriptor
    code: int  # the exit code; negative: the signal
    timed_out: bool
    written: int  # bytes on stdout and stderr
    peak_kb: int
    seconds: float

    @property
    def evidence(self) -> Any:
        """The answer as a value; only the first, if it wrote more of them."""
        assert self.answer, f"the control gave no answer: {self}"
        return json.loads(self.answer.splitlines()[0])


def run(code: str, given: Mapping[str, Any], *, apart: bool = False, patience: float) -> Ending:
    """Run a util's code in a plain Python process, in an empty folder, for a while."""
    reading, writing = os.pipe()
    command = [*(APART if apart else ()), sys.executable, str(RUNNER), str(writing)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="abuse-outside-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "HOME": folder, "TMPDIR": folder},
            pass_fds=[writing],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(writing)
        assert process.stdin
        assert process.stdout
        with process.stdin, contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps({"code": code, "input": dict(given)}).encode())
        answers, output = _Reader(reading), _Reader(os.dup(process.stdout.fileno()))
        process.stdout.close()
        code_, timed_out, peak_kb = _wait(process, patience)
        answer, written = answers.end(), output.end()

    return Ending(
        answer=answer,
        code=code_,
        timed_out=timed_out,
        written=len(written),
        peak_kb=peak_kb,
        seconds=time.monotonic() - started,
    )


def _wait(process: subprocess.Popen[bytes], patience: float) -> tuple[int, bool, int]:
    """Wait for the end, or make it; returns exit code, whether it was made, and peak memory."""
    with _pidfd(process.pid) as pidfd:
        killer = threading.Timer(patience, signal.pidfd_send_signal, [pidfd, signal.SIGKILL])
        killer.start()
        # Not reaped yet: the number of its group must still be its own when the group is killed.
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        timed_out = not killer.is_alive()
        killer.cancel()
        killer.join()
    os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    with contextlib.suppress(ChildProcessError):
        while True:  # whoever it left behind became ours, if we are asked to bury the dead
            os.waitpid(-process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, timed_out, usage.ru_maxrss


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Reader:
    """Reads a descriptor to its end in a thread, and keeps so much."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._descriptor, 1 << 16):
            if len(self._kept) < KEPT:
                self._kept += chunk

    def end(self) -> bytes:
        self._thread.join(timeout=5)
        assert not self._thread.is_alive(), "the control left a process that holds its output"
        os.close(self._descriptor)
        return bytes(self._kept)
