"""The second half of the line: consume -> lock -> execute -> record -> invalidate."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Final
from uuid import UUID

from csb_core import leases, metrics
from csb_core.cache import StatusCache
from csb_core.db import Pool, connection
from csb_core.dealing import tenant_of
from csb_core.errors import CacheUnavailable, QueueUnavailable, StoreRejected, StoreUnavailable
from csb_core.leases import Candidate, End, Recorded
from csb_core.models import Lease
from csb_core.queue import Queue
from csb_core.worker import messages, recorder
from csb_core.worker.executor import Executor, Finished
from csb_core.worker.hand import Hand, Holding
from csb_core.worker.intake import Popped
from csb_core.worker.messages import Desk, Ringing
from csb_core.worker.slots import Slots

logger = logging.getLogger(__name__)

Event = Popped | Finished

#: How long a turn waits for something to happen before it looks around.
TURN: Final = timedelta(milliseconds=500)
#: How long the word of a claim may wait for that of its end, so that Redis hears both at once.
MOMENT: Final = timedelta(milliseconds=3)
#: How long a loop rests after a turn for a guest of the express lane, in parts of that turn:
#: whoever comes alone would else find no processor free at any of its steps.
REST: Final = 0.5
#: It rests no longer than this, however long the turn took.
LONGEST_REST: Final = timedelta(milliseconds=10)
#: How often a loop that may go looks whether everything is done.
LEAVING: Final = timedelta(milliseconds=50)
#: How often a worker that waits for its hands to be empty asks whether it still needs to.
LOOK_AGAIN: Final = timedelta(seconds=1)
#: Moves that wait for a Redis which does not take them.
MOST_UNFORGOTTEN: Final = 50_000
#: Why no slot may be taken while a request that loses its workers is executed alone.
ALONE: Final = "alone"


@dataclass(slots=True, kw_only=True)
class Loop:
    """One thread that claims, hands out and records, in batches; nobody else records its claims."""

    worker: str
    queue: Queue
    pool: Pool
    cache: StatusCache
    desk: Desk
    executor: Executor
    slots: Slots
    hand: Hand
    inbox: SimpleQueue[Event]
    stop: threading.Event
    ttl: timedelta
    #: Takes over what this loop could not claim; None where it has to find out why.
    pass_on: Callable[[Popped], None] | None = None
    #: Whether the express lane has a guest, for whom this loop rests; None where it is that lane.
    has_guest: Callable[[], bool] | None = None
    #: Ends that PostgreSQL has not taken yet, with what they belong to.
    unrecorded: list[tuple[Holding, End]] = field(default_factory=list)
    #: Versions that Redis has not been told of yet.
    unforgotten: dict[UUID, int] = field(default_factory=dict)
    #: How long the next turn may wait for something to happen.
    pause: timedelta = TURN
    #: Requests that have lost several workers: each waits until it can be claimed alone.
    lonely: deque[Ringing] = field(default_factory=deque)
    #: When it was last made sure that these still wait.
    looked: float = 0.0
    last_turn: float = field(default_factory=time.monotonic)

    def run(self, feeders: Sequence[threading.Thread]) -> None:
        """Work until asked to stop and empty-handed, or until an action hangs and we are empty."""
        while not self._is_done(feeders):
            self.last_turn = time.monotonic()
            metrics.SLOTS_BUSY.labels(self.queue.provider).set(len(self.hand))
            popped, finished = self._gather()
            began = time.monotonic()
            try:
                self.turn(popped, finished)
            except StoreUnavailable as exc:
                logger.warning("store.unavailable", extra={"reason": str(exc)})
                time.sleep(random.uniform(0.1, 0.5))  # noqa: S311
            finally:
                self.slots.arrived(tenant_of(raw) for raw in popped)
            if self._is_time_to_forget(popped, finished):
                self.forget()
            self._rest(time.monotonic() - began)
        self._leave()

    def _is_done(self, feeders: Sequence[threading.Thread]) -> bool:
        leaving = self.stop.is_set() and not any(feeder.is_alive() for feeder in feeders)
        return leaving and not len(self.hand) and self.inbox.empty()

    def _gather(self) -> tuple[list[bytes], list[Finished]]:
        """Everything that has happened; waits a little for the first of it."""
        popped: list[bytes] = []
        finished: list[Finished] = []
        try:
            if self.unrecorded:
                event = self.inbox.get_nowait()
            else:
                pause = min(self.pause, LEAVING) if self.stop.is_set() else self.pause
                event = self.inbox.get(timeout=pause.total_seconds())
            while True:
                match event:
                    case Popped():
                        popped += event.messages
                    case Finished():
                        finished.append(event)
                event = self.inbox.get_nowait()
        except Empty:
            return popped, finished

    def _rest(self, turn: float) -> None:
        """Leave the processors to a guest for a part of the time that this turn took, if any."""
        if self.has_guest and self.has_guest():
            time.sleep(min(REST * turn, LONGEST_REST.total_seconds()))

    def turn(self, popped: list[bytes], finished: list[Finished]) -> None:
        """Record what has ended, then claim what has come; raises StoreUnavailable.

        Nothing is lost by that: ends wait for the next turn, messages go back or are rung again.
        """
        ringing, unreadable = messages.read(popped)
        self.slots.give(len(popped) - len(ringing))
        self.desk.refuse(unreadable)
        try:
            self.record(finished)
            if self.stop.is_set():
                self._hand_back(ringing)
                return
            claimed = self._claim(ringing) if ringing else {}
        except (StoreUnavailable, StoreRejected):
            self._hand_back(ringing)
            raise

        if unclaimed := messages.unserved(ringing, claimed):
            self._leave_unclaimed(unclaimed)
        if self.lonely:
            self.slots.close(ALONE)
            self.begin_alone()

    def _leave_unclaimed(self, unclaimed: list[Ringing]) -> None:
        if self.pass_on:
            self.pass_on(Popped(messages=[r.raw for r in unclaimed]))
            return
        self.slots.give(len(unclaimed))
        self.lonely.extend(self.desk.explain(unclaimed))
        self.looked = time.monotonic()

    def begin_alone(self) -> None:
        """Claim one request that keeps losing its workers, once nothing else is in hand."""
        if len(self.hand) or self.slots.busy or self.unrecorded:
            self._look_again()
            return
        if self.stop.is_set():
            self.lonely.clear()  # the rescuer of whoever stays will ring for them
            return
        # From here on a loss is this request's own doing: nothing else is held.
        claimed = self._claim([self.lonely[0]], alone=True)
        self.lonely.popleft()
        if not claimed and not self.lonely:
            self.slots.open(ALONE)

    def _look_again(self) -> None:
        """Close for nobody's sake no longer: another process may have come first."""
        if time.monotonic() - self.looked > LOOK_AGAIN.total_seconds():
            self.lonely = deque(self.desk.explain(list(self.lonely)))
            self.looked = time.monotonic()
        if not self.lonely:
            self.slots.open(ALONE)

    def _claim(self, ringing: list[Ringing], *, alone: bool = False) -> dict[UUID, Lease]:
        began = time.monotonic()
        with connection(self.pool) as conn:
            claimed = leases.claim(
                conn,
                [Candidate(correlation_id=r.correlation_id, digest=r.digest) for r in ringing],
                worker=self.worker,
                ttl=self.ttl,
                alone=alone,
            )
        provider = self.queue.provider
        metrics.CLAIM_SECONDS.labels(provider).observe(time.monotonic() - began)
        metrics.CLAIM_BATCH.labels(provider).observe(len(claimed))
        metrics.CLAIMED.labels(provider).inc(len(claimed))

        self.unforgotten |= {lease.correlation_id: lease.version for lease in claimed}
        self.pause = MOMENT
        for lease in claimed:
            holding = Holding(
                lease=lease,
                expires=began + self.ttl.total_seconds(),
                due=began + self.executor.deadline(lease).total_seconds(),
                alone=alone,
            )
            self.hand.add(holding)
            self.executor.submit(holding, self.inbox.put)
        return {lease.correlation_id: lease for lease in claimed}

    def record(self, finished: list[Finished]) -> None:
        """Write what has ended, in one statement; what was not written stays for the next turn."""
        self.unrecorded += [(f.holding, f.end) for f in finished]
        recorder.count(finished, self.queue.provider)
        if not self.unrecorded:
            return
        batch = self.unrecorded
        recorded = recorder.record(batch, self.pool, self.queue.provider, worker=self.worker)

        self.unrecorded = []
        self.hand.drop(holding for holding, _ in batch)
        self.slots.give(sum(not holding.alone for holding, _ in batch))
        self.unforgotten |= {i: r.version for i, r in recorded.items()}
        self._ring_again(batch, recorded)
        if not self.lonely and any(holding.alone for holding, _ in batch):
            self.slots.open(ALONE)

    def _ring_again(self, batch: list[tuple[Holding, End]], recorded: dict[UUID, Recorded]) -> None:
        again = [
            messages.compose(holding.lease, at=recorded[end.correlation_id].at)
            for holding, end in batch
            if end.wait == timedelta() and end.correlation_id in recorded
        ]
        try:
            self.queue.publish(again)
        except QueueUnavailable as exc:
            logger.warning("request.ring_deferred", extra={"reason": str(exc)})

    def _is_time_to_forget(self, popped: list[bytes], finished: list[Finished]) -> bool:
        """Readers hear of an end at once, of a claim when nothing more urgent is to be done."""
        if len(self.unforgotten) >= self.slots.total:
            return True
        is_idle = not popped and not finished
        return is_idle or (bool(finished) and self.inbox.empty())

    def forget(self) -> None:
        """Invalidate the statuses of what has moved; a failure is tried again next turn."""
        self.pause = TURN
        if not self.unforgotten:
            return
        try:
            self.cache.forget(list(self.unforgotten.items()))
        except CacheUnavailable as exc:
            metrics.INVALIDATION_FAILURES.labels(self.queue.provider).inc()
            logger.warning("cache.unavailable", extra={"reason": str(exc)})
            for oldest in list(self.unforgotten)[:-MOST_UNFORGOTTEN]:
                del self.unforgotten[oldest]  # what was cached of it has expired by itself
            return
        self.unforgotten.clear()

    def _hand_back(self, ringing: list[Ringing]) -> None:
        """Put back what could not be claimed; without Redis the rescuer will ring for it."""
        self.slots.give(len(ringing))
        try:
            self.queue.give_back([r.raw for r in ringing])
        except QueueUnavailable as exc:
            logger.warning("queue.unavailable", extra={"reason": str(exc)})

    def _leave(self) -> None:
        self.forget()
        logger.info("worker.drained", extra={"abandoned": len(self.hand.abandoned())})
