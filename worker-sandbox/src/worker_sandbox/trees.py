"""Trees of files that somebody hostile made: seen and removed, and no file of them opened.

Nothing is followed and every step is relative to a descriptor, for the tree may change meanwhile.
It may be as deep and as wide as it likes.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from time import monotonic
from typing import Final

_SEARCH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: Honest code nests less; what lies deeper is not looked for.
_DEEPEST: Final = 32
_BLOCK: Final = 512
#: How many names are read at once, and how many go by between two looks at the clock.
_AT_ONCE: Final = 1024


class _TooDeep(Exception):
    """What it holds cannot be told within bounds."""


def exceeds(top: int, *, most_bytes: int, most_files: int) -> bool:
    """Whether a tree holds more, or is too deep to tell; looks at no more than that many files."""
    held = 0
    try:
        for files, found in enumerate(_walk(top, 0), start=1):
            held += found.st_blocks * _BLOCK
            if held > most_bytes or files > most_files:
                return True
    except _TooDeep:
        return True
    return False


def _walk(directory: int, depth: int) -> Iterator[os.stat_result]:
    if depth > _DEEPEST:
        raise _TooDeep
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # removed just now
            yield found
            if stat.S_ISDIR(found.st_mode):
                yield from _walk_inner(entry.name, directory, depth + 1)


def _walk_inner(name: str, parent: int, depth: int) -> Iterator[os.stat_result]:
    try:
        inner = _enter(name, parent)
    except OSError:
        return  # removed or replaced just now
    with _closing(inner):
        yield from _walk(inner, depth)


def remove(folder: Path, name: str, *, until: float) -> bool:
    """Remove the directory `name` of `folder`; False when time is up. Raises OSError.

    What lies deeper than one level is moved up before it is removed, so that depth costs nothing.
    """
    # Names that nobody in the tree can have taken.
    fresh = (f"{prefix}{number}" for prefix in [secrets.token_hex(16)] for number in count())
    with _closing(os.open(folder, _SEARCH)) as parent:
        try:
            top = _enter(name, parent)
        except FileNotFoundError:
            return True
        with _closing(top):
            while names := _some_names(top):
                for inner in names:
                    if not _remove_or_empty(inner, top, fresh, until):
                        return False
        os.rmdir(name, dir_fd=parent)
    return True


def _remove_or_empty(name: str, top: int, fresh: Iterator[str], until: float) -> bool:
    """Remove what `top` has by this name; of a directory, move up the directories in it."""
    if _unlinked(name, top):
        return monotonic() < until
    with _closing(_enter(name, top)) as directory:
        while names := _some_names(directory):
            if monotonic() > until:
                return False
            for inner in names:
                if not _unlinked(inner, directory):
                    os.close(_enter(inner, directory))  # only what we may write into can be moved
                    os.rename(inner, next(fresh), src_dir_fd=directory, dst_dir_fd=top)
    os.rmdir(name, dir_fd=top)
    return True


def _some_names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in islice(entries, _AT_ONCE)]


def _unlinked(name: str, directory: int) -> bool:
    """Remove a file, a link, a pipe; False for a directory."""
    with suppress(IsADirectoryError):
        os.unlink(name, dir_fd=directory)
        return True
    return False


def _enter(name: str, parent: int) -> int:
    """A descriptor to list a directory by, whatever its mode was. Raises OSError."""
    with _closing(os.open(name, _SEARCH, dir_fd=parent)) as place:
        if os.fstat(place).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            # This very directory: by its name it could be another by now.
            Path(f"/proc/self/fd/{place}").chmod(stat.S_IRWXU)
        return os.open(".", _LIST, dir_fd=place)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
