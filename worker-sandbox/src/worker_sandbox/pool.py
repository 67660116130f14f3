"""Jails that stand ready, and the thread that replaces those that were taken."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from csb_core import metrics
from worker_sandbox.cgroups import Leaves
from worker_sandbox.errors import SandboxUnavailable
from worker_sandbox.jails import Jail
from worker_sandbox.succession import House, Succession

log = logging.getLogger(__name__)

#: Jails in preparation at once: one per core is as fast as it gets.
_AT_ONCE: Final = 2
_PREPARE: Final = 5.0
_PAUSE: Final = 0.5
#: How often the thread looks around: while killed jails are on their way out, while others are
#: being prepared, and otherwise. A bell wakes it at any time.
_SOON_MS, _WATCHFUL_MS, _IDLE_MS = 10.0, 100.0, 250.0


@dataclass(slots=True, kw_only=True)
class Held:
    """A jail and whose it is."""

    jail: Jail
    house: House


@dataclass(slots=True, kw_only=True)
class Pool:
    """At most `size` jails wait. Whoever takes one gives it back to be thrown away."""

    zygotes: Succession
    size: int
    #: Control groups, and how many tasks one may hold.
    leaves: Leaves | None = None
    tasks: int = 0
    _ready: deque[Held] = field(default_factory=deque, init=False)
    _preparing: dict[int, tuple[Held, float]] = field(default_factory=dict, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _bell: int = field(
        default_factory=lambda: os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), init=False
    )
    _thread: threading.Thread | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def open(self) -> None:
        """Begin to fill it."""
        self._thread = threading.Thread(target=self._run, name="sandbox-pool", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> int:
        """Jails that wait."""
        return len(self._ready)

    def waiting(self) -> tuple[int, ...]:
        """The process ids of those that wait."""
        with self._changed:
            return tuple(held.jail.pid for held in self._ready)

    def take(self, seconds: float) -> Held:
        """A jail that stands; raises SandboxUnavailable when none comes in time."""
        until = monotonic() + seconds
        with self._changed:
            while True:
                while self._ready:
                    held = self._ready.popleft()
                    self._ring()
                    if not held.jail.is_dead():
                        return held
                    self._drop(held)
                left = until - monotonic()
                if self._closed or left <= 0:
                    raise SandboxUnavailable("no jail became ready in time")
                self._changed.wait(left)

    def throw_away(self, held: Held) -> None:
        """End a jail that was taken; none is used twice."""
        with self._changed:
            self._drop(held)
            self._ring()

    def close(self) -> None:
        """End every jail and every zygote; who still holds a jail sees it die."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._ring()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            for held in [*self._ready, *(held for held, _ in self._preparing.values())]:
                held.jail.close()
            self._ready.clear()
            self._preparing.clear()
            self.zygotes.close()
            bell, self._bell = self._bell, -1
            os.close(bell)
            if self.leaves is not None:
                self.leaves.close()

    def _drop(self, held: Held) -> None:
        held.jail.close()
        held.house.jails -= 1

    def _ring(self) -> None:
        """Wake the thread; the lock is held, so the bell is not closed meanwhile."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        """The thread: refill, rotate, bury, until closed."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        while not self._closed:
            self._count_the_dead()
            try:
                self._order(poll)
            except SandboxUnavailable as exc:
                log.warning("sandbox.refill_failed", extra={"reason": str(exc)})
                self.zygotes.lose()
                self._pause()
            for descriptor, _ in poll.poll(self._patience_ms()):
                if descriptor == self._bell:
                    os.eventfd_read(self._bell)
                else:
                    self._confirm(poll, descriptor)
            self._give_up_on_late(poll)
            with self._changed:
                over = self.zygotes.over()
            for zygote in over:
                zygote.close()

    def _count_the_dead(self) -> None:
        """Drop what waits no more, and a zygote that is gone; both happen to who is killed."""
        if self.zygotes.has_died():
            log.warning("sandbox.zygote_died")
            self.zygotes.lose()
        with self._changed:
            for held in [held for held in self._ready if held.jail.is_dead()]:
                self._ready.remove(held)
                self._drop(held)

    def _patience_ms(self) -> float:
        if self.leaves is not None and not self.leaves.tidy():
            return _SOON_MS
        return _WATCHFUL_MS if self._preparing else _IDLE_MS

    def _order(self, poll: select.poll) -> None:
        """Have as many jails prepared as are missing, a few at a time."""
        self._renew()
        while (
            not self._closed
            and len(self._preparing) < _AT_ONCE
            and len(self._ready) + len(self._preparing) < self.size
        ):
            house = self.zygotes.current()
            jail = house.zygote.bear()
            held = Held(jail=jail, house=house)
            with self._changed:
                house.jails += 1
            if self.leaves is not None:
                try:
                    jail.join(self.leaves, self.tasks)
                except SandboxUnavailable:
                    with self._changed:
                        self._drop(held)
                    raise
            self._preparing[held.jail.result] = (held, monotonic())
            poll.register(held.jail.result, select.POLLIN)

    def _renew(self) -> None:
        """When all stand ready, drop one of a zygote that has served: none waits for ever."""
        if self._closed or len(self._ready) < self.size:
            return
        self.zygotes.tend()
        with self._changed:
            old = next((held for held in self._ready if held.house.retired), None)
            if old is not None:
                self._ready.remove(old)
                self._drop(old)

    def _confirm(self, poll: select.poll, descriptor: int) -> None:
        held, since = self._preparing.pop(descriptor)
        poll.unregister(descriptor)
        try:
            held.jail.confirm()
        except SandboxUnavailable as exc:
            log.warning("sandbox.jail_failed", extra={"reason": str(exc)})
            with self._changed:
                self._drop(held)
            self._pause()
            return
        metrics.SANDBOX_PREPARE_SECONDS.observe(monotonic() - since)
        with self._changed:
            self._ready.append(held)
            self._changed.notify()

    def _give_up_on_late(self, poll: select.poll) -> None:
        for descriptor, (held, since) in list(self._preparing.items()):
            if monotonic() - since > _PREPARE:
                log.warning("sandbox.jail_failed", extra={"reason": "it took too long"})
                del self._preparing[descriptor]
                poll.unregister(descriptor)
                with self._changed:
                    self._drop(held)

    def _pause(self) -> None:
        with self._changed:
            if not self._closed:
                self._changed.wait(_PAUSE)
