"""Scratch directories for jails that have no root of their own: one each, gone when the jail is.

The worker makes them, looks at how much is in them, and removes them. A jail is lent the descriptor
of its own. The names are secrets: Landlock hides what lies in the others, but not that it is there.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Self

from worker_sandbox import trees
from worker_sandbox.errors import SandboxUnavailable

log = logging.getLogger(__name__)

_PREFIX: Final = "csb-scratch-"
_SECRET_BYTES: Final = 16
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Whoever knows a name below may go there, and nobody may ask for the names.
_SEARCHED: Final = 0o711
#: A directory is worked at for so long at once, so many times: a dying jail may still write.
_PATIENCE: Final = 5.0
_TRIES: Final = 20
_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """The directory of one jail."""

    name: str
    descriptor: int

    def is_over(self, *, most_bytes: int, most_files: int) -> bool:
        """Whether it holds more than it may; what was deleted and is open is not seen."""
        whole = os.fstatvfs(self.descriptor)
        held = (whole.f_blocks - whole.f_bfree) * whole.f_frsize
        files = whole.f_files - whole.f_ffree
        if held <= most_bytes and files <= most_files and whole.f_files:
            return False  # all of the filesystem holds less
        return trees.exceeds(self.descriptor, most_bytes=most_bytes, most_files=most_files)


@dataclass(slots=True, kw_only=True)
class Scratches:
    """Those of one process. Its lock on their folder tells others that it lives."""

    #: Whose they are when we are root.
    uid: int
    _folder: Path
    _descriptor: int
    _left: queue.SimpleQueue[str | None] = field(default_factory=queue.SimpleQueue, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    @classmethod
    def open(cls, root: Path, *, uid: int) -> Self:
        """Make a folder below `root`, and remove those of the dead. Raises SandboxUnavailable."""
        folder = root / f"{_PREFIX}{secrets.token_hex(_SECRET_BYTES)}"
        try:
            folder.mkdir()
            folder.chmod(_SEARCHED)
            descriptor = os.open(folder, _FLAGS)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as exc:
            raise SandboxUnavailable(f"there can be no scratch directories: {exc}") from exc
        scratches = cls(uid=uid, _folder=folder, _descriptor=descriptor)
        scratches._begin()
        return scratches

    def make(self) -> Scratch:
        """An empty one. Raises SandboxUnavailable."""
        name = secrets.token_hex(_SECRET_BYTES)
        try:
            os.mkdir(name, 0o700, dir_fd=self._descriptor)
            if os.geteuid() == 0:
                os.chown(name, self.uid, self.uid, dir_fd=self._descriptor, follow_symlinks=False)
            return Scratch(name=name, descriptor=os.open(name, _FLAGS, dir_fd=self._descriptor))
        except OSError as exc:
            raise SandboxUnavailable(f"no scratch directory can be made: {exc}") from exc

    def give_back(self, scratch: Scratch) -> None:
        """Have it removed, by a thread of its own; its jail is dead or dying."""
        os.close(scratch.descriptor)
        self._left.put(scratch.name)

    def close(self) -> None:
        """Remove what was given back, and the folder."""
        self._left.put(None)
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):  # what is left is for the next who opens one
            self._folder.rmdir()
        os.close(self._descriptor)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="sandbox-scratch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        """The thread: remove what the dead have left, then what is given back."""
        for abandoned in _abandoned(self._folder.parent):
            _remove(self._folder.parent, abandoned)
        while (name := self._left.get()) is not None:
            _remove(self._folder, name)


def _remove(folder: Path, name: str) -> None:
    reason = "it takes too long"
    for _ in range(_TRIES):
        try:
            if trees.remove(folder, name, until=monotonic() + _PATIENCE):
                return
        except OSError as exc:
            reason = str(exc)
        sleep(_PAUSE)
    log.warning("sandbox.scratch_left", extra={"reason": reason})


def _abandoned(root: Path) -> Iterator[str]:
    """The folders that nobody holds the lock of: their processes are gone, however they went."""
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            descriptor = os.open(folder, _FLAGS)
        except OSError:
            continue  # another user's, or just removed by another process
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        yield folder.name
