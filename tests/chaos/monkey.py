"""Somebody who kills a process of ours every few seconds, and somebody who starts masters again."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.chaos.platform import Platform
from tests.chaos.service import kill


@dataclass(slots=True, kw_only=True)
class Monkey:
    """Kills -9; mostly a process, sometimes a master, whose processes then end by themselves."""

    platform: Platform
    pause: tuple[float, float]
    masters: float
    killed: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)

    def strike(self) -> None:
        """Kill one."""
        name, service = random.choice(list(self.platform.services.items()))
        if random.random() < self.masters:
            self.killed[f"{name} master"] += kill(service.pid)
        elif pids := service.processes():
            self.killed[name] += kill(random.choice(pids))

    def supervise(self) -> None:
        """Start what has no master."""
        for name, service in self.platform.services.items():
            if not service.is_alive():
                service.start()
                self.restarts[name] += 1


@contextmanager
def raging(platform: Platform, *, pause: tuple[float, float], masters: float) -> Iterator[Monkey]:
    """A monkey and a supervisor during the block; at its end everything stands again."""
    monkey = Monkey(platform=platform, pause=pause, masters=masters)
    stop = threading.Event()

    def repeat(act: Callable[[], None], pauses: Callable[[], float]) -> None:
        while not stop.wait(pauses()):
            act()

    threads = [
        threading.Thread(
            target=repeat, args=(monkey.strike, lambda: random.uniform(*pause)), name="monkey"
        ),
        threading.Thread(target=repeat, args=(monkey.supervise, lambda: 0.5), name="supervisor"),
    ]
    for thread in threads:
        thread.start()
    try:
        yield monkey
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    while not all(service.is_ready() for service in platform.services.values()):
        monkey.supervise()
        time.sleep(0.5)
