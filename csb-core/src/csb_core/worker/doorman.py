"""Waits in Redis for what comes, while the intake waits in the process for what goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from csb_core.errors import QueueUnavailable
from csb_core.queue import Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errand:
    seconds: float
    baton: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a wait brought: the oldest unsorted message; None when it is time to ask for a deal."""

    message: bytes | None


@dataclass(slots=True, kw_only=True)
class Doorman:
    """One thread's work: a wait at a time, each sent for by the intake and answered by a call.

    What it was sent for may come when the intake has gone on for another reason: it is kept until
    the intake asks, and no second message is taken before that.
    """

    queue: Queue
    called: Callable[[], None]
    _errands: SimpleQueue[_Errand | None] = field(default_factory=SimpleQueue)
    _answers: SimpleQueue[Heard | QueueUnavailable] = field(default_factory=SimpleQueue)
    #: Sent, and its answer not taken; only the intake's thread looks at it.
    _away: bool = False

    def send(self, seconds: float, *, baton: bool) -> None:
        """Have it wait, also for others' leavings if `baton`; nothing happens if it still does."""
        if not self._away:
            self._away = True
            self._errands.put(_Errand(seconds=seconds, baton=baton))

    def heard(self) -> Heard | None:
        """What it came back with; None if it has not come. Raises QueueUnavailable."""
        try:
            answer = self._answers.get_nowait()
        except Empty:
            return None
        return self._taken(answer)

    def dismiss(self) -> Heard | None:
        """Send it home, and wait for what it may still bring."""
        self._errands.put(None)
        return self._taken(self._answers.get()) if self._away else None

    def _taken(self, answer: Heard | QueueUnavailable) -> Heard:
        self._away = False
        if isinstance(answer, QueueUnavailable):
            raise answer
        return answer

    def run(self) -> None:
        """Go on errands until dismissed."""
        while errand := self._errands.get():
            self._answers.put(self._wait(errand))
            self.called()

    def _wait(self, errand: _Errand) -> Heard | QueueUnavailable:
        try:
            return Heard(message=self.queue.wait(errand.seconds, baton=errand.baton))
        except QueueUnavailable as exc:
            return exc
