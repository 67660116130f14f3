"""Which zygote bears the next jail: each serves for a while, and its heir stands before it goes.

All jails of a zygote have the same memory layout and the same hash seed; that is why none serves
for long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from worker_sandbox.errors import SandboxUnavailable
from worker_sandbox.zygotes import ZygoteProcess

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class House:
    """A zygote and how many of its jails are still about."""

    zygote: ZygoteProcess
    jails: int = 0
    retired: bool = False


@dataclass(slots=True, kw_only=True)
class Succession:
    """One thread asks; an heir is raised in a thread of its own."""

    start: Callable[[], ZygoteProcess]
    rotate_jails: int
    rotate_seconds: float
    _house: House | None = field(default=None, init=False)
    _houses: list[House] = field(default_factory=list, init=False)
    _heir: ZygoteProcess | None = field(default=None, init=False)
    _raising: threading.Thread | None = field(default=None, init=False)

    def begin(self, zygote: ZygoteProcess) -> None:
        """The first one."""
        self._move_in(zygote)

    def current(self) -> House:
        """Whom to ask for a jail. Raises SandboxUnavailable when there is nobody, nor can be."""
        house = self._house
        if house is None:
            return self._move_in(self.start())
        if not self._has_served(house.zygote):
            return house
        if self._heir is not None:
            heir, self._heir = self._heir, None
            house.retired = True
            return self._move_in(heir)
        if self._raising is None or not self._raising.is_alive():
            self._raising = threading.Thread(target=self._raise, name="sandbox-heir", daemon=True)
            self._raising.start()
        return house

    def tend(self) -> None:
        """What need not wait until a jail is asked for: an heir that stands, or age."""
        house = self._house
        if house is not None and (self._heir is not None or self._is_old(house.zygote)):
            self.current()

    def has_died(self) -> bool:
        """Whether the one that is asked is gone."""
        return self._house is not None and self._house.zygote.is_dead()

    def lose(self) -> None:
        """It does not answer any more: the next one is started when it is asked for."""
        if self._house is not None:
            self._house.retired = True
            self._house = None

    def over(self) -> list[ZygoteProcess]:
        """Those to be closed: retired and the last jail gone, or dead. Each is told once."""
        over = [h for h in self._houses if h.retired and (not h.jails or h.zygote.is_dead())]
        self._houses = [house for house in self._houses if house not in over]
        return [house.zygote for house in over]

    def close(self) -> None:
        """End all of them, and with them their jails."""
        if self._raising is not None:
            self._raising.join()
        for zygote in [*(house.zygote for house in self._houses), self._heir]:
            if zygote is not None:
                zygote.close()
        self._houses.clear()
        self._heir = None

    def _has_served(self, zygote: ZygoteProcess) -> bool:
        return self._is_old(zygote) or zygote.born >= self.rotate_jails

    def _is_old(self, zygote: ZygoteProcess) -> bool:
        return monotonic() - zygote.started > self.rotate_seconds

    def _move_in(self, zygote: ZygoteProcess) -> House:
        self._house = House(zygote=zygote)
        self._houses.append(self._house)
        return self._house

    def _raise(self) -> None:
        try:
            self._heir = self.start()
        except SandboxUnavailable as exc:
            log.warning("sandbox.no_successor", extra={"reason": str(exc)})
