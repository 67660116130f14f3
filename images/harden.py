"""Take from an image what nobody needs at run time; run as root while its last stage is built.

Gone are the installers, and the set-user-id bits that a process without privileges could climb by.
The standard library is compiled once here: a read-only root could never keep what it compiles.
"""

from __future__ import annotations

import compileall
import os
import shutil
import site
import stat
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

#: What lies among the packages of a base, and would install others.
INSTALLERS: Final = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack")
PROGRAMS: Final = ("pip*", "wheel", "easy_install*", "idle*")

#: Of the standard library: what installs, and what only people at a desk use.
SPARE: Final = ("ensurepip", "idlelib", "turtledemo", "test")

#: Where Debian keeps the wheels from which it makes pip.
WHEELS: Final = Path("/usr/share/python-wheels")

_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_KERNELS: Final = frozenset({"/proc", "/sys", "/dev", "/run"})


def main() -> None:
    """Do all of it; raises OSError when something resists."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in [*_installers(), *_programs(), *(library / name for name in SPARE), WHEELS]:
        _remove(path)
    for path in _set_id_files(Path("/")):
        path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_SET_ID)
    compileall.compile_dir(
        library, quiet=1, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )


def _installers() -> Iterator[Path]:
    for folder in map(Path, site.getsitepackages()):
        for name in INSTALLERS:
            yield folder / name
            yield from folder.glob(f"{name}-*-info")
        yield folder / "distutils-precedence.pth"


def _programs() -> Iterator[Path]:
    for folder in ("/usr/local/bin", "/usr/bin"):
        for pattern in PROGRAMS:
            yield from Path(folder).glob(pattern)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _set_id_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [one for one in folders if os.path.join(folder, one) not in _KERNELS]  # noqa: PTH118
        for name in names:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & _SET_ID:
                yield path


if __name__ == "__main__":
    main()
