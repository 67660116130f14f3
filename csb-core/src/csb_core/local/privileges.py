"""PostgreSQL refuses to run as root; this finds the way in which it runs all the same."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from csb_core.local.processes import NotStarted

NOBODY: Final = "nobody"

#: The capability to walk everywhere; without the bit beside it, access(2) would not count it.
WALK: Final = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
WALK_AND_KEEP_IT: Final = ("--securebits=+no_setuid_fixup", *WALK)


def unprivileged(data: Path, initdb: Path) -> tuple[str, ...]:
    """The command prefix under which PostgreSQL may use `data` without being root.

    An ordinary user needs none. Root is mapped to an unprivileged user inside a user namespace:
    no file changes its owner, and everything may lie anywhere, under /root as well. Where
    namespaces are refused (many containers), PostgreSQL runs as nobody, the folder is given to
    nobody, and one capability lets it walk through folders that are closed to others.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return ()
    if _works(_namespace(), data, initdb):
        return _namespace()
    if os.geteuid() == 0:
        _give(data, pwd.getpwnam(NOBODY))
        for options in (WALK_AND_KEEP_IT, WALK, ()):
            if _works(_setpriv(*options), data, initdb):
                return _setpriv(*options)
    raise NotStarted(
        f"PostgreSQL cannot run as root, and here neither a user namespace nor user {NOBODY!r} can "
        f"use {data}: call make as an ordinary user, or set CSB_DATABASE_URL"
    )


def _namespace() -> tuple[str, ...]:
    nobody = pwd.getpwnam(NOBODY)
    return (
        "/usr/bin/unshare",
        "--user",
        f"--map-user={nobody.pw_uid}",
        f"--map-group={nobody.pw_gid}",
        "--",
    )


def _setpriv(*options: str) -> tuple[str, ...]:
    nobody = pwd.getpwnam(NOBODY)
    return (
        "/usr/bin/setpriv",
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        *options,
        "--",
    )


def _works(prefix: Sequence[str], data: Path, initdb: Path) -> bool:
    """Try it: let PostgreSQL find itself, and make and remove a file where it will write."""
    script = 'set -e; "$1" --show --pgdata="$2"; cd "$2"; : > .probe; test -O .probe; rm .probe'
    argv = [*prefix, "/bin/sh", "-c", script, "sh", str(initdb), str(data)]
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False  # initdb asks for it; a namespace supplies one
    return True


def _give(directory: Path, user: pwd.struct_passwd) -> None:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
