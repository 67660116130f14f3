"""Points of the line at which a process can be struck; production has no hooks for it.

A test's own gunicorn configuration calls `install` in each worker process, after the fork. A point
does nothing until a test lays an order into the folder; the process that takes the order away
strikes itself, once. So one running platform serves every point, and nobody dies twice.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from tests.chaos.patience import until

FOLDER = "CHAOS_ORDERS"


def always(arguments: tuple[Any, ...], result: Any) -> bool:
    """Every call of the function is the point."""
    del arguments, result
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Before or after a call of one function, when `meets` says that this is the call."""

    name: str
    module: str
    attribute: str
    when: Literal["before", "after"]
    meets: Callable[[tuple[Any, ...], Any], bool] = always


def install(points: Sequence[Point]) -> None:
    """Wrap the functions of these points in this process."""
    for point in points:
        owner: Any = importlib.import_module(point.module)
        *path, name = point.attribute.split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, name, _wrapped(getattr(owner, name), point))


def _wrapped(real: Callable[..., Any], point: Point) -> Callable[..., Any]:
    def wrapper(*arguments: Any, **named: Any) -> Any:
        if point.when == "before" and point.meets(arguments, None):
            _strike(point.name, arguments)
        result = real(*arguments, **named)
        if point.when == "after" and point.meets(arguments, result):
            _strike(point.name, arguments)
        return result

    return wrapper


def _strike(name: str, arguments: tuple[Any, ...]) -> None:
    """Take the order for this point, if there is one, and carry it out on this process."""
    order = Path(os.environ[FOLDER]) / name
    taken = order.with_name(f"{name}.{os.getpid()}")
    try:
        order.rename(taken)
    except FileNotFoundError:
        return
    blow, _, delay = taken.read_text().partition(" ")
    if blow == "hang-up":
        arguments[0].close()
        import psycopg  # noqa: PLC0415 - gevent must have patched before the first import

        raise psycopg.OperationalError("the connection broke before the answer was read")
    number = signal.Signals[blow]
    if delay:
        threading.Timer(float(delay), os.kill, (os.getpid(), number)).start()
    else:
        os.kill(os.getpid(), number)


@dataclass(frozen=True, slots=True)
class Orders:
    """The test's side: lay an order, and see who took it."""

    folder: Path

    def kill(self, name: str) -> None:
        """Let the first process that reaches this point kill itself there."""
        self._lay(name, signal.SIGKILL.name)

    def stop(self, name: str, *, delay: float = 0) -> None:
        """Let the first process that reaches this point stop itself, there or a little later."""
        self._lay(name, f"{signal.SIGSTOP.name} {delay}" if delay else signal.SIGSTOP.name)

    def hang_up(self, name: str) -> None:
        """Let the first that reaches this point lose its connection to PostgreSQL there."""
        self._lay(name, "hang-up")

    def _lay(self, name: str, order: str) -> None:
        draft = self.folder / f"{name}.new"
        draft.write_text(order)
        draft.rename(self.folder / name)

    def taken_by(self, name: str) -> int | None:
        """The process that has taken the order; None while it lies there."""
        for path in self.folder.glob(f"{name}.*"):
            if (pid := path.suffix[1:]).isdigit():
                return int(pid)
        return None

    def await_taken(self, name: str) -> int:
        """The process that takes the order, as soon as it has."""
        return until(
            lambda: self.taken_by(name) or 0, timedelta(seconds=20), f"somebody is at {name}"
        )

    def clear(self) -> None:
        """Withdraw what nobody took, and forget who took the rest."""
        for path in self.folder.iterdir():
            path.unlink()
