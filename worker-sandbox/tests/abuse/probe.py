"""Stands above the code of a case, inside the jail and outside: notes what comes of attempts."""

from __future__ import annotations

import errno
import os
import sys  # noqa: F401 - for the code that stands below
import time  # noqa: F401 - as above
from collections.abc import Callable
from typing import Any

seen: dict[str, Any] = {}


def attempt(name: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Note what came of a call: done and its value, or the name of the errno or exception."""
    try:
        value = call(*args, **named)
    except OSError as exc:
        seen[name] = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    except Exception as exc:  # noqa: BLE001 - whatever comes is the evidence
        seen[name] = type(exc).__name__
    else:
        plain = isinstance(value, str | int | float | list | dict | None)
        seen[name] = ["done", value if plain else repr(value)[:200]]
        return value
    return None


def libc() -> Any:
    """The C library, with its errno."""
    import ctypes  # noqa: PLC0415 - a case may see to it that this fails

    return ctypes.CDLL(None, use_errno=True)


def raw(number: int, *args: Any) -> int:
    """One system call by its number, past Python's and the C library's opinion."""
    import ctypes  # noqa: PLC0415 - as above

    library = libc()
    library.syscall.restype = ctypes.c_long
    given = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    ctypes.set_errno(0)
    value = library.syscall(ctypes.c_long(number), *given)
    if value == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(value)


def read(path: str) -> str:
    """The beginning of a file."""
    with open(path, "rb") as file:  # noqa: PTH123 - as hostile code writes it
        return file.read(4096).decode("latin-1")


def write(path: str, text: str = "abuse") -> int:
    """Write a file, wherever it is."""
    with open(path, "w") as file:  # noqa: PTH123 - as above
        return file.write(text)
