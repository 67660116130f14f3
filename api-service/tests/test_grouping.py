"""Work done for many at once: nobody waits for company, and nobody is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from api_service.grouping import Grouping, NotBegun, NotFinished


class Slow:
    """Work that takes a while, and remembers its groups."""

    def __init__(self, seconds: float = 0.05) -> None:
        self.seconds = seconds
        self.groups: list[list[int]] = []
        self.abreast = 0
        self.most_abreast = 0
        self._lock = threading.Lock()

    def __call__(self, items: Sequence[int]) -> list[int]:
        with self._lock:
            self.groups.append(list(items))
            self.abreast += 1
            self.most_abreast = max(self.most_abreast, self.abreast)
        time.sleep(self.seconds)
        with self._lock:
            self.abreast -= 1
        if -1 in items:
            raise ValueError("a bad item")
        return [item * 10 for item in items]


def grouping(
    work: Slow, *, patience: float = 5, abreast: int = 2, most: int = 8
) -> Grouping[int, int]:
    return Grouping(work, most=most, abreast=abreast, patience=timedelta(seconds=patience))


def test_lonely_caller_does_not_wait() -> None:
    work = Slow(0)
    assert grouping(work).ask([1, 2]) == [10, 20]
    assert work.groups == [[1, 2]]


def test_each_caller_gets_its_own_answers() -> None:
    work = Slow()
    asked = grouping(work)
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda n: asked.ask([n, n + 1000]), range(40)))

    assert answers == [[n * 10, n * 10 + 10000] for n in range(40)]
    assert work.most_abreast <= 2
    assert max(len(group) for group in work.groups) <= 8
    assert len(work.groups) < 20


def test_larger_order_than_a_group_goes_alone() -> None:
    work = Slow(0)
    assert len(grouping(work).ask(list(range(50)))) == 50
    assert len(work.groups) == 1


def test_failure_reaches_its_group_and_nobody_after_it() -> None:
    work = Slow()
    asked = grouping(work, abreast=1)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(asked.ask, [1])
        time.sleep(0.01)
        doomed = [pool.submit(asked.ask, [n]) for n in (-1, 2)]
        assert first.result() == [10]
        for future in doomed:
            with pytest.raises(ValueError, match="a bad item"):
                future.result()
    assert asked.ask([3]) == [30]


def test_impatient_callers_learn_how_far_it_came() -> None:
    work = Slow(0.6)
    asked = grouping(work, patience=0.1, abreast=1)
    with ThreadPoolExecutor(3) as pool:
        leader = pool.submit(asked.ask, [1])
        time.sleep(0.02)
        early = pool.submit(asked.ask, [2])
        with pytest.raises(NotBegun):
            early.result()
        assert leader.result() == [10]
    assert work.groups == [[1]]

    asked = grouping(work, patience=0.5, abreast=1)
    with ThreadPoolExecutor(3) as pool:
        leader = pool.submit(asked.ask, [1])
        time.sleep(0.15)
        second, third = pool.submit(asked.ask, [2]), pool.submit(asked.ask, [3])
        time.sleep(0.01)
        outcomes: list[object] = []
        for future in (second, third):
            try:
                outcomes.append(future.result())
            except (NotFinished, NotBegun) as exc:
                outcomes.append(type(exc))
    assert outcomes in ([[20], NotFinished], [NotFinished, [30]])
