"""What must be reached, and whether it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.rounds import OLD, Results

#: The figures that must not grow with history: more is better, or less is.
AGEING: Final = {
    "post_per_s": "more",
    "batch_requests_per_s": "more",
    "drain_per_s": "more",
    "line_finished_per_s": "more",
    "to_end_ms_p50": "less",
    "hit_per_s": "more",
    "miss_per_s": "more",
}
_MOST_LOST: Final = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """One thing asked for. `met` is None when what it needs was not measured."""

    name: str
    asked: str
    measured: str
    met: bool | None
    #: An aim is told, and does not count.
    is_aim: bool = False


def judge(results: Results) -> list[Floor]:
    """Every floor with what was measured."""
    return [*_floors(results), *_ageing(results)]


def _floors(results: Results) -> Iterator[Floor]:
    at_least = _against(results, "at least", lambda ours, floor: ours >= floor)
    at_most = _against(results, "at most", lambda ours, floor: ours <= floor)
    relative = _relative(results)
    yield at_least("POST accepted/s", "post_per_s", 1_200)
    yield relative(
        "POST accepted/s, against Celery behind Flask", "post_per_s", "celery_post_per_s", 1
    )
    yield at_least("batch POST requests/s", "batch_requests_per_s", 5_000)
    yield at_least("line saturated, finished/s", "line_finished_per_s", 900)
    yield relative(
        "line saturated, against Celery's", "line_finished_per_s", "celery_line_finished_per_s", 4
    )
    yield at_least("drained/s", "drain_per_s", 6_000)
    yield relative(
        "drained/s, against PgQueuer", "drain_per_s", "pgqueuer_drain_per_s", 1, aim=True
    )
    yield at_most("POST to end at 50/s, p50 ms", "to_end_ms_p50", 8)
    yield at_most("POST to end at 50/s, p99 ms", "to_end_ms_p99", 30)
    yield relative("GET hit/s, against a bare route", "hit_per_s", "bare_flask_per_s", 0.6)
    yield at_most("beside a flood, p99 against alone: quick actions", "fair_quick_times", 3)
    yield at_most("beside a flood, p99 against alone: slow actions", "fair_slow_times", 3)
    yield at_most("recovery after kill -9, p99 s", "recovery_s_p99", 10)
    yield at_most("input to result with a ready jail, p50 ms", "hand_over_ms_p50", 3)
    yield at_most("input to result with a ready jail, p99 ms", "hand_over_ms_p99", 15)
    yield at_least("executions/s, each in a fresh jail", "executions_per_second", 200)
    yield at_least("executions/s end to end over HTTP", "executed_per_s", 120)
    yield at_most("memory of a waiting jail, MiB", "waiting_jail_pss_mib", 6)


def times(results: Results, figure: str, theirs: str) -> float | None:
    """How many times theirs ours is, by pairs of one round; None when one was not measured."""
    ours, other = results.figures.get(figure), results.figures.get(theirs)
    if not ours or not other or len(ours) != len(other):
        return None
    return median(o / t for o, t in zip(ours, other, strict=True))


def ageing(results: Results, name: str) -> float | None:
    """How much worse a figure is with a long history: 0.1 is a tenth; by pairs of one round."""
    young, old = results.figures.get(name), results.figures.get(OLD + name)
    if not young or not old or len(young) != len(old):
        return None
    pairs = zip(young, old, strict=True)
    if AGEING[name] == "more":
        return 1 - median(o / y for y, o in pairs)
    return median(o / y for y, o in pairs) - 1


def _ageing(results: Results) -> Iterator[Floor]:
    for name in AGEING:
        lost = ageing(results, name)
        yield Floor(
            name=f"with a long history: {name}",
            asked=f"at most {_MOST_LOST:.0%} worse",
            measured="-" if lost is None else f"{lost:+.1%} worse",
            met=None if lost is None else lost <= _MOST_LOST,
        )


def _against(
    results: Results, words: str, holds: Callable[[float, float], bool]
) -> Callable[[str, str, float], Floor]:
    def floor(name: str, figure: str, asked: float) -> Floor:
        ours = results.median(figure)
        return Floor(
            name=name,
            asked=f"{words} {asked:,}",
            measured="-" if ours is None else f"{ours:,.2f}".removesuffix(".00"),
            met=None if ours is None else holds(ours, asked),
        )

    return floor


def _relative(results: Results) -> Callable[..., Floor]:
    def floor(name: str, figure: str, theirs: str, asked: float, *, aim: bool = False) -> Floor:
        ratio = times(results, figure, theirs)
        met = None if ratio is None else ratio > asked if asked == 1 else ratio >= asked
        return Floor(
            name=name,
            asked=f"at least {asked:g} x" if asked != 1 else "more than 1 x",
            measured="-" if ratio is None else f"{ratio:.2f} x",
            met=met,
            is_aim=aim,
        )

    return floor
