"""Removes the control groups of a worker's jails when the worker is gone, however it went.

It waits for the end of its standard input, which only the worker can close.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_TRIES: Final = 1200
_PAUSE: Final = 0.025


def clear(parents: Iterable[Path]) -> bool:
    """Remove the empty groups; whether all are gone. A group with a process in it stays."""
    gone = True
    for parent in parents:
        with suppress(OSError):
            for leaf in [entry for entry in parent.iterdir() if entry.is_dir()]:
                with suppress(OSError):
                    leaf.rmdir()
            parent.rmdir()
        gone = gone and not parent.exists()
    return gone


def main() -> None:
    """Wait, then clear until the last jail has ended."""
    parents = [Path(argument) for argument in sys.argv[1:]]
    while os.read(0, 1):
        continue
    for _ in range(_TRIES):
        if clear(parents):
            return
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
