"""The root of all jails of a zygote, built from nothing: mount_namespaces(7), pivot_root(2).

There is the standard library, an operator's packages, the time zones, three devices and an empty
place for the scratch directory; no /proc, no /sys, no program and no library. What extension
modules need is loaded before the jail exists.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Final

from worker_sandbox.jail import kernel
from worker_sandbox.jail.kernel import Call
from worker_sandbox.jail.plan import Plan

_RDONLY, _NOSUID, _NODEV, _NOEXEC = 0x1, 0x2, 0x4, 0x8
_REMOUNT, _BIND, _REC, _PRIVATE = 0x20, 0x1000, 0x4000, 0x4_0000
_DETACH: Final = 2
#: statvfs(3) and mount(2) use the same bits for these; a bind must keep what its source has.
_KEPT: Final = _NODEV | _NOSUID | _NOEXEC | 0x400 | 0x800

WORK: Final = "/job"
SCRATCH: Final = "/job/scratch"
_ZONES: Final = "/usr/share/zoneinfo"
#: What even a transformer may write to.
NOWHERE: Final = "/dev/null"
_DEVICES: Final = ("null", "zero", "urandom")
#: Where the new root is put together; it hides the directory from us alone.
_SITES: Final = ("/tmp", "/mnt", "/srv")  # noqa: S108 - nothing is written there
_SMALL: Final = "size=1m,nr_inodes=512,mode=0755"


def library() -> str:
    """Where the standard library lies, by its real path."""
    return os.path.realpath(sysconfig.get_path("stdlib"))


def readable(packages: str | None) -> list[str]:
    """What a jail may read where it sees the host's root."""
    paths = [library(), _ZONES, *(f"/dev/{name}" for name in _DEVICES)]
    return [path for path in [*paths, *([packages] if packages else [])] if Path(path).exists()]


def build(packages: str | None) -> None:
    """Make the new root the only one of this mount namespace. Raises OSError."""
    _mount(None, "/", None, _REC | _PRIVATE)
    site = next(path for path in _SITES if Path(path).is_dir())
    _mount("root", site, "tmpfs", _NOSUID | _NODEV, _SMALL)
    Path(site, "old").mkdir(0o700)
    os.chdir(site)
    kernel.call("pivot_root", kernel.address("."), kernel.address("old"))
    os.chdir("/")

    _furnish(packages)

    kernel.call("umount2", kernel.address("/old"), _DETACH)
    Path("/old").rmdir()
    _mount(None, "/", None, _REMOUNT | _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def tape(plan: Plan) -> list[Call]:
    """Mount a jail's own scratch directory; it dies with the jail."""
    arguments = _arguments(
        "scratch",
        SCRATCH,
        "tmpfs",
        _NOSUID | _NODEV | _NOEXEC,
        f"size={plan.scratch_bytes},nr_inodes={plan.scratch_files},mode=0700",
    )
    return [kernel.planned("scratch", "mount", *arguments)]


def _furnish(packages: str | None) -> None:
    for path in ("/dev", WORK, SCRATCH):
        Path(path).mkdir(0o755)
    for name in _DEVICES:
        Path("/dev", name).touch()
        _bind(f"/dev/{name}", _NOEXEC, device=True)

    _bind_directory(library())
    extra = f"{library()}/site-packages"
    if Path(extra).is_dir():
        _mount("empty", extra, "tmpfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC, "nr_inodes=1")
    if Path(f"/old{_ZONES}").is_dir():
        _bind_directory(_ZONES, _NOEXEC)
    if packages:
        _bind_directory(packages)


def _bind_directory(path: str, flags: int = 0) -> None:
    Path(path).mkdir(0o755, parents=True, exist_ok=True)
    _bind(path, flags)


def _bind(path: str, flags: int, *, device: bool = False) -> None:
    source = f"/old{path}"
    kept = os.statvfs(source).f_flag & _KEPT
    if device:
        kept &= ~_NODEV
    _mount(source, path, None, _BIND)
    wanted = flags | kept | _RDONLY | _NOSUID | (0 if device else _NODEV)
    _mount(None, path, None, _REMOUNT | _BIND | wanted)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    try:
        kernel.call("mount", *_arguments(source, target, kind, flags, options))
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, target) from exc


def _arguments(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None
) -> tuple[int, int, int, int, int]:
    """What mount(2) takes."""
    first, second, third, last = (
        0 if text is None else kernel.address(text) for text in (source, target, kind, options)
    )
    return first, second, third, flags, last
