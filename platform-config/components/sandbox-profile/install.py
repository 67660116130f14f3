"""Keeps a seccomp profile on the node: install.py PROFILE FOLDER.

It writes the file when it is missing or different, by a name of its own first: the runtime must
never read half a profile. Then it looks again every minute, until it is told to end.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Final

_AGAIN: Final = 60.0


def install(profile: Path, folder: Path) -> bool:
    """Write the profile into the folder; False when it is there already. Raises OSError."""
    target, wanted = folder / profile.name, profile.read_bytes()
    if target.is_file() and target.read_bytes() == wanted:
        return False
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = folder / f".{profile.name}.new"
    new.write_bytes(wanted)
    new.chmod(0o644)
    new.replace(target)
    return True


def main(profile: str, folder: str) -> int:
    """Install, and keep it so; an error ends the program, for the kubelet to tell and try again."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    while True:
        if install(Path(profile), Path(folder)):
            print(f"installed {folder}/{Path(profile).name}", flush=True)
        if told.wait(_AGAIN):
            return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
