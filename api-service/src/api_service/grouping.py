"""Does for many callers at once what costs about the same as for one.

Whoever comes while nothing is under way goes to work at once, so nobody waits for company. Whoever
comes meanwhile lies down, and as soon as the work returns, one of those who lie there does it for
all of them. There is no thread to keep alive: the callers are the workers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class NotBegun(Exception):
    """Nobody took the items to work in time, and nobody will."""


class NotFinished(Exception):
    """The items are at work, and the answer did not come in time."""


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Item, Answer]):
    """One caller's items, and what it wakes up to: answers, a failure, or a group to lead."""

    items: Sequence[Item]
    answers: Sequence[Answer] = ()
    failure: BaseException | None = None
    group: list[_Ticket[Item, Answer]] | None = None
    awake: threading.Event = field(default_factory=threading.Event)


class Grouping(Generic[Item, Answer]):
    """Calls `work` with the items of all who wait: up to `most`, or one caller's, if it has more.

    `work` answers item by item, in their order; at most `abreast` calls of it are under way.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        most: int,
        abreast: int,
        patience: timedelta,
    ) -> None:
        self._work = work
        self._most = most
        self._idle = abreast
        self._patience = patience.total_seconds()
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket[Item, Answer]] = deque()

    def ask(self, items: Sequence[Item]) -> Sequence[Answer]:
        """Return the answers to these items; raises what `work` raised, NotBegun, NotFinished."""
        ticket: _Ticket[Item, Answer] = _Ticket(items)
        with self._lock:
            self._waiting.append(ticket)
            if self._idle:
                self._idle -= 1
                self._hand_over()
        if not ticket.awake.wait(self._patience):
            self._give_up(ticket)
        if ticket.group is not None:
            self._lead(ticket.group)
        if ticket.failure is not None:
            raise ticket.failure
        return ticket.answers

    def _lead(self, group: list[_Ticket[Item, Answer]]) -> None:
        """Work for the group, pass the lead on, wake the group."""
        try:
            answers = iter(self._work([item for ticket in group for item in ticket.items]))
            for ticket in group:
                ticket.answers = list(islice(answers, len(ticket.items)))
        except BaseException as exc:
            for ticket in group:
                ticket.failure = exc
            raise
        finally:
            with self._lock:
                self._hand_over()
            for ticket in group:
                ticket.awake.set()

    def _hand_over(self) -> None:
        """Under the lock: give the next group to one of it, or rest when nobody waits."""
        if not self._waiting:
            self._idle += 1
            return
        leader = self._waiting[0]
        group: list[_Ticket[Item, Answer]] = []
        size = 0
        while self._waiting and (not group or size + len(self._waiting[0].items) <= self._most):
            group.append(self._waiting.popleft())
            size += len(group[-1].items)
        leader.group = group
        leader.awake.set()

    def _give_up(self, ticket: _Ticket[Item, Answer]) -> None:
        """Raise how far a caller's items have come; return if it leads by now, after all."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                raise NotBegun
            if ticket.group is None and not ticket.awake.is_set():
                raise NotFinished
