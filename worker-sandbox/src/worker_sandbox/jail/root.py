"""The root of all jails of a zygote, built from nothing: mount_namespaces(7), pivot_root(2).

There is the standard library, an operator's packages, the time zones, three devices and an empty
place for the scratch directory; no /proc, no /sys, no program and no library. What extension
modules need is loaded before the jail exists.
"""

from __future__ import annotations

import os
import sysconfig
from typing import Final

from worker_sandbox.jail import kernel

_RDONLY, _NOSUID, _NODEV, _NOEXEC = 0x1, 0x2, 0x4, 0x8
_REMOUNT, _BIND, _REC, _PRIVATE = 0x20, 0x1000, 0x4000, 0x4_0000
_DETACH: Final = 2
#: statvfs(3) and mount(2) use the same bits for these; a bind must keep what its source has.
_KEPT: Final = _NODEV | _NOSUID | _NOEXEC | 0x400 | 0x800

WORK: Final = "/job"
SCRATCH: Final = "/job/scratch"
_ZONES: Final = "/usr/share/zoneinfo"
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
    return [path for path in [*paths, *([packages] if packages else [])] if os.path.exists(path)]


def build(packages: str | None) -> None:
    """Make the new root the only one of this mount namespace. Raises OSError."""
    kernel.mount(None, "/", None, _REC | _PRIVATE)
    site = next(path for path in _SITES if os.path.isdir(path))
    kernel.mount("root", site, "tmpfs", _NOSUID | _NODEV, _SMALL)
    os.mkdir(f"{site}/old", 0o700)
    os.chdir(site)
    kernel.pivot_root(".", "old")
    os.chdir("/")

    _furnish(packages)

    kernel.unmount("/old", _DETACH)
    os.rmdir("/old")
    kernel.mount(None, "/", None, _REMOUNT | _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def add_scratch(size: int, files: int) -> None:
    """Mount a jail's own scratch directory; it dies with the jail."""
    options = f"size={size},nr_inodes={files},mode=0700"
    kernel.mount("scratch", SCRATCH, "tmpfs", _NOSUID | _NODEV | _NOEXEC, options)


def _furnish(packages: str | None) -> None:
    for path in ("/dev", WORK, SCRATCH):
        os.mkdir(path, 0o755)
    for name in _DEVICES:
        with open(f"/dev/{name}", "xb"):
            pass
        _bind(f"/dev/{name}", _NOEXEC, device=True)

    _bind_directory(library())
    extra = f"{library()}/site-packages"
    if os.path.isdir(extra):
        kernel.mount("empty", extra, "tmpfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC, "nr_inodes=1")
    if os.path.isdir(f"/old{_ZONES}"):
        _bind_directory(_ZONES, _NOEXEC)
    if packages:
        _bind_directory(packages)


def _bind_directory(path: str, flags: int = 0) -> None:
    os.makedirs(path, 0o755, exist_ok=True)
    _bind(path, flags)


def _bind(path: str, flags: int, *, device: bool = False) -> None:
    source = f"/old{path}"
    kept = os.statvfs(source).f_flag & _KEPT
    if device:
        kept &= ~_NODEV
    kernel.mount(source, path, None, _BIND)
    wanted = flags | kept | _RDONLY | _NOSUID | (0 if device else _NODEV)
    kernel.mount(None, path, None, _REMOUNT | _BIND | wanted)
