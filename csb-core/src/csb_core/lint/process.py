"""Starts the inspector on a source, under limits and a deadline, and reads its one answer.

The inspector limits itself before it reads anything, so nothing has to run between fork and exec
of a process with threads. What it is asked lies in an anonymous file: no pipe can fill both ways.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from csb_core.lint.inspector import program
from csb_core.lint.values import Answer, LintLimits, LintUnavailable

#: The inspector is a package of its own there: nothing of ours and no site-packages is imported.
_START: Final = (
    "import sys; sys.path.append(sys.argv[1]); from inspector.program import main; main()"
)
_FOLDER: Final = str(Path(program.__file__).resolve().parent.parent)

_EXHAUSTED: Final = Answer(
    found=(("SYN002", 1, 1, "the source exhausts what reading it may take"),)
)


def ask(question: Mapping[str, Any], limits: LintLimits) -> Answer:
    """Return what the inspector says; a source that ends it has a finding for that.

    Raises LintUnavailable when no process could be started, it got no turn in time, or its answer
    is not understood.
    """
    try:
        answer, code = _talk(json.dumps(question).encode(), limits)
    except OSError as exc:
        raise LintUnavailable(f"the inspector cannot be run: {exc.strerror}") from exc
    if answer is None:
        return _EXHAUSTED
    return _understood(answer, code)


def _talk(data: bytes, limits: LintLimits) -> tuple[bytes | None, int | None]:
    """Return the answer, None when it is too long, and the exit status."""
    read_end, write_end = os.pipe()
    try:
        with _inspector(data, write_end, limits) as process:
            os.close(write_end)
            write_end = -1
            answer = _read(read_end, limits)
            return answer, _end(process) if answer is not None else None
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)


@contextmanager
def _inspector(
    data: bytes, write_end: int, limits: LintLimits
) -> Iterator[subprocess.Popen[bytes]]:
    """Start it in a session of its own; on leaving it is dead, whatever happened."""
    arguments = [_FOLDER, str(limits.cpu_seconds), str(limits.memory_mb), str(limits.answer_bytes)]
    with os.fdopen(os.memfd_create("question"), "w+b") as asked:
        asked.write(data)
        asked.seek(0)
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", "-E", "-B", "-W", "ignore", "-c", _START, *arguments],
            stdin=asked,
            stdout=write_end,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _read(read_end: int, limits: LintLimits) -> bytes | None:
    """Read until the end; None when more came than may.

    Raises LintUnavailable at the deadline: a source that is to blame meets the limit of processor
    time long before, so it is the machine that is too busy.
    """
    deadline = time.monotonic() + limits.wall.total_seconds()
    parts: list[bytes] = []
    length = 0
    with selectors.DefaultSelector() as selector:
        selector.register(read_end, selectors.EVENT_READ)
        while length <= limits.answer_bytes:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise LintUnavailable("the inspector did not come to its end in time; try again")
            part = os.read(read_end, 65536)
            if not part:
                return b"".join(parts)
            parts.append(part)
            length += len(part)
    return None


def _end(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit status of a process that closed its end, None if it still lingers."""
    try:
        return process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return None


def _understood(data: bytes, code: int | None) -> Answer:
    if code is None or code < 0:
        return _EXHAUSTED  # a signal: the parser overflowed its stack, or a limit's SIGKILL
    try:
        document = json.loads(data)
        found = tuple(
            (str(r), int(line), int(col), str(m)) for r, line, col, m in document["found"]
        )
        return Answer(found=found, cost=document["cost"])
    except (ValueError, KeyError, TypeError) as exc:
        raise LintUnavailable(f"the inspector ended with {code} and no answer") from exc
