"""Every measurement once a round, the rounds one after the other: noise hits all of them alike."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench import ours
from bench.executions import executions, jails
from bench.failure import Ended
from bench.fairness import fairness
from bench.recovery import recovery
from bench.scene import Measure, Reading, stage
from bench.servers import Platform
from bench.yardsticks import bare, celery
from bench.yardsticks.huey import huey
from bench.yardsticks.pgqueuer import pgqueuer
from bench.yardsticks.side import Side

#: Stands before the names of what was measured with a long history in the tables.
OLD: Final = "history: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A measurement of the platform."""

    name: str
    measure: Measure
    with_api: bool = True
    #: Also taken with a long history.
    ages: bool = True
    #: Taken in the first round only: it brings many samples, and takes its time.
    once: bool = False
    #: The yardsticks that this is held against: they are taken right after it.
    beside: tuple[str, ...] = ()


OURS: Final = (
    Ours(name="post", measure=ours.post, beside=("celery-enqueue",)),
    Ours(name="batch", measure=ours.batch),
    Ours(name="hit", measure=ours.hit, beside=("bare-flask", "bare-flask-silent")),
    Ours(name="miss", measure=ours.miss),
    Ours(name="line", measure=ours.line, beside=("celery-line",)),
    Ours(name="latency", measure=ours.latency),
    Ours(name="seen", measure=ours.seen, ages=False),
    Ours(name="drain", measure=ours.drain, with_api=False, beside=("celery-drain", "pgqueuer")),
    Ours(name="fairness", measure=fairness, with_api=False, ages=False),
    Ours(name="executions", measure=executions, ages=False, beside=("jails",)),
    Ours(name="recovery", measure=recovery, ages=False, once=True),
)

YARDSTICKS: Final[dict[str, Callable[[Side], Reading]]] = {
    "jails": jails,
    "bare-flask": lambda side: bare.flask(side, with_log=True),
    "bare-flask-silent": lambda side: bare.flask(side, with_log=False),
    "pgbench": bare.pgbench,
    "celery-enqueue": celery.enqueue,
    "celery-drain": celery.drain,
    "celery-line": celery.line,
    "pgqueuer": pgqueuer,
    "huey": huey,
}

NAMES: Final = (*(one.name for one in OURS), *YARDSTICKS)


@dataclass(slots=True)
class Results:
    """What all rounds have found so far."""

    figures: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: defaultdict[str, defaultdict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    #: Measurements that gave no figure, with why: the others are kept, the run has failed.
    failures: list[str] = field(default_factory=list)

    def add(self, reading: Reading, prefix: str = "") -> None:
        """Take a round's reading in."""
        for name, value in reading.figures.items():
            self.figures[prefix + name].append(round(value, 2))
        for unit, spent in reading.cpu.items():
            for component, micros in spent.items():
                self.cpu[prefix + unit][component].append(micros)

    def median(self, name: str) -> float | None:
        """The median of a figure's rounds; None when it was not measured."""
        values = self.figures.get(name)
        return median(values) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run measures, and on what."""

    side: Side
    young: Platform
    old: Platform | None
    only: Sequence[str]

    def run(self) -> Results:
        """Take every measurement in every round."""
        results = Results()
        rounds = self.side.sizes.rounds
        for number in range(1, rounds + 1):
            for name, prefix, take in self._steps(number):
                began = time.monotonic()
                try:
                    reading = take()
                except Ended:
                    raise
                except Exception as exc:  # noqa: BLE001 - whatever it is, other figures stand
                    results.failures.append(f"round {number}, {prefix}{name}: {exc!r}")
                    print(f"{number}/{rounds} {prefix}{name} FAILED: {exc!r}", flush=True)
                    continue
                results.add(reading, prefix)
                told = ", ".join(f"{k} {v:,.2f}" for k, v in reading.figures.items())
                seconds = time.monotonic() - began
                print(f"{number}/{rounds} {prefix}{name}: {told}  ({seconds:.0f} s)", flush=True)
        return results

    def _steps(self, number: int) -> Iterable[tuple[str, str, Callable[[], Reading]]]:
        for one in OURS:
            if self._is_wanted(one.name) and not (one.once and number > 1):
                # Young and old change places each round, so that neither is always the later one.
                platforms = [("", self.young)]
                if self.old is not None and one.ages:
                    platforms.insert(number % 2, (OLD, self.old))
                for prefix, platform in platforms:
                    yield one.name, prefix, self._ours(one, platform)
            yield from self._yardsticks(one.beside)
        yield from self._yardsticks(YARDSTICKS.keys() - {y for one in OURS for y in one.beside})

    def _yardsticks(
        self, names: Collection[str]
    ) -> Iterable[tuple[str, str, Callable[[], Reading]]]:
        for name, measure in YARDSTICKS.items():
            if name in names and self._is_wanted(name):
                yield name, "", self._theirs(measure)

    def _is_wanted(self, name: str) -> bool:
        return not self.only or any(name.startswith(word) for word in self.only)

    def _ours(self, one: Ours, platform: Platform) -> Callable[[], Reading]:
        def take() -> Reading:
            side = self.side
            with stage(side.servers, platform, side.sizes, with_api=one.with_api) as scene:
                return one.measure(scene)

        return take

    def _theirs(self, measure: Callable[[Side], Reading]) -> Callable[[], Reading]:
        def take() -> Reading:
            self.side.servers.level()
            return measure(self.side)

        return take
