"""Takes out of the zygote where its program lies: a jail's frames need not tell the host's paths.

It hides nothing that could be used, for nothing there can be read; it is what tracebacks, frames
and modules say of themselves.
"""

from __future__ import annotations

import _imp
import gc
import sys
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Final

_NAME: Final = "<jail>"
#: What importlib does with a compiled file that was moved: in place, with the code inside the code.
#: Frames that run have no other way; the stubs do not know it.
_rename: Final = getattr(_imp, "_fix_co_filename")  # noqa: B009
_TELLING: Final = ("__cached__", "__file__", "__loader__", "__path__", "__spec__")


def forget_place() -> None:
    """Rename all code of this package, running or not, and strip its modules; once, at the end."""
    place = str(Path(__file__).resolve().parent.parent)
    for code in _code():
        if code.co_filename.startswith(place):
            _rename(code, _NAME)
    for name, module in list(sys.modules.items()):
        if name == "__main__" or name.startswith("worker_sandbox"):
            _strip(module)
    for path in list(sys.path_importer_cache):
        if path.startswith(place):
            del sys.path_importer_cache[path]


def _code() -> list[CodeType]:
    found = [thing.__code__ for thing in gc.get_objects() if type(thing) is FunctionType]
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the way to frames
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return found


def _strip(module: ModuleType) -> None:
    for name in _TELLING:
        vars(module).pop(name, None)
