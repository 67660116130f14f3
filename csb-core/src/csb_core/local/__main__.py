"""`python -m csb_core.local up|down|status|logs|demo`: what the Makefile calls."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from pathlib import Path
from typing import Final

from csb_core.errors import BridgeError
from csb_core.local import demo, platform, standing
from csb_core.local.layout import Layout

#: What a folder says that is not ours, or a disk that is full or read-only.
UNWRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def main() -> int:
    """Run one command for the clone in the working directory; the exit code is the answer."""
    parser = argparse.ArgumentParser(prog="csb_core.local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "logs", "demo"])
    command = parser.parse_args().command
    layout = Layout.of(Path.cwd(), os.environ)
    try:
        return _run(command, layout)
    except BridgeError as exc:
        _tell(command, str(exc), exc)
        return 1
    except OSError as exc:
        if exc.errno not in UNWRITABLE:
            raise
        _tell(command, f"{exc}; all that runs writes to {layout.run}", exc)
        return 1
    except KeyboardInterrupt as exc:
        _tell(command, "interrupted", exc)
        return 130


def _tell(command: str, fault: str, exc: BaseException) -> None:
    """Name the fault, and what was noted of it on its way up."""
    lines = [fault, *getattr(exc, "__notes__", [])]
    print("\n".join(f"{command}: {line}" for line in lines), file=sys.stderr)


def _run(command: str, layout: Layout) -> int:
    match command:
        case "up":
            began = time.monotonic()
            values = platform.up(layout, os.environ)
            print(standing.table(standing.status(layout)))
            print(f"\nready after {time.monotonic() - began:.1f} s at {values['CSB_URL']}")
            print(f"what a client needs is in {layout.environment}")
            return 0
        case "down":
            strays = platform.down(layout)
            print(
                f"{strays} strays ended, nothing is left" if strays else "nothing is left running"
            )
            return 0
        case "status":
            standings = standing.status(layout)
            print(standing.table(standings) if standings else "nothing here yet: call make up")
            if any(s.state == standing.UNWATCHED for s in standings):
                print(
                    "\nno supervisor answers: make up starts one anew, make down ends what is left"
                )
            return 0 if all(s.well for s in standings) else 1
        case "logs":
            platform.follow_logs(layout)
            return 0
        case _:
            print("bringing the platform up ...", flush=True)
            return demo.run(platform.up(layout, os.environ), layout.root)


if __name__ == "__main__":
    sys.exit(main())
