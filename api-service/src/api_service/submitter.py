"""Writes what this process accepts: everything that waits in one statement and one commit.

A commit costs the same for one request as for two hundred. So callers put their drafts down and
wait; a loop takes all that lie there, writes them, publishes them and wakes their callers. While
one group is being written the next one gathers, so nobody ever waits for company.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Final

from api_service.bell import Bell
from api_service.errors import OutcomeUnknown
from csb_core import metrics, requests
from csb_core.db import Pool, connection
from csb_core.errors import BridgeError, StoreRejected, StoreUnavailable
from csb_core.models import Draft
from csb_core.requests import Accepted

log = logging.getLogger(__name__)

Answer = Accepted | BridgeError

#: Two statements in flight keep PostgreSQL busy while one waits for the disk.
_LOOPS: Final = 2
_MOST_AT_ONCE: Final = 200


@dataclass(slots=True)
class _Ticket:
    """The drafts of one caller, and where the caller waits for what became of them."""

    drafts: Sequence[Draft]
    answers: Sequence[Answer] = ()
    done: threading.Event = field(default_factory=threading.Event)


class Submitter:
    """Persists and publishes drafts for the callers of this process."""

    def __init__(self, pool: Pool, bell: Bell, *, patience: timedelta) -> None:
        self._pool = pool
        self._bell = bell
        self._patience = patience
        self._tickets: SimpleQueue[_Ticket | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin, in threads of its own."""
        self._threads = [
            threading.Thread(target=self.run, name=f"submitter-{n}", daemon=True)
            for n in range(_LOOPS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Write what has been put down, then end."""
        for _ in self._threads:
            self._tickets.put(None)
        for thread in self._threads:
            thread.join(timeout=self._patience.total_seconds())
        self._threads = []

    def submit(self, drafts: Sequence[Draft]) -> Sequence[Answer]:
        """Persist and publish; returns what became of each draft, in their order."""
        ticket = _Ticket(drafts)
        self._tickets.put(ticket)
        if not ticket.done.wait(self._patience.total_seconds()):
            return _unknown(drafts)
        return ticket.answers

    def run(self) -> None:
        """Group after group, until stopped."""
        while group := self._take():
            try:
                self.run_once(group)
            except Exception:
                # A bug; its callers have been answered, and the next group is not to blame.
                log.exception("submitter.crashed", extra={"tickets": len(group)})

    def run_once(self, group: Sequence[_Ticket]) -> None:
        """Persist, publish, wake."""
        drafts = [draft for ticket in group for draft in ticket.drafts]
        answers: Sequence[Answer] = _unknown(drafts)
        try:
            answers = self._persist(drafts)
            self._bell.ring(
                (draft, answer)
                for draft, answer in zip(drafts, answers, strict=True)
                if isinstance(answer, Accepted)
            )
        finally:
            given = iter(answers)
            for ticket in group:
                ticket.answers = list(islice(given, len(ticket.drafts)))
                ticket.done.set()

    def _take(self) -> list[_Ticket]:
        """Wait for a ticket, then take all others that lie there; empty when stopped."""
        group: list[_Ticket] = []
        size = 0
        ticket = self._tickets.get()
        while ticket is not None:
            group.append(ticket)
            size += len(ticket.drafts)
            if size >= _MOST_AT_ONCE:
                return group
            try:
                ticket = self._tickets.get_nowait()
            except Empty:
                return group
        if group:
            self._tickets.put(None)  # the word to stop is not for this group
        return group

    def _persist(self, drafts: Sequence[Draft]) -> Sequence[Answer]:
        sent = False
        try:
            with connection(self._pool) as conn, metrics.SUBMIT_SECONDS.time():
                sent = True
                metrics.SUBMIT_BATCH.observe(len(drafts))
                return requests.insert(conn, drafts)
        except StoreRejected:
            return self._one_by_one(drafts)  # one of them is to blame, and must fail alone
        except StoreUnavailable as exc:
            if not sent:
                return [exc] * len(drafts)
            return self._one_by_one(drafts)  # the acknowledgement may be all that was lost

    def _one_by_one(self, drafts: Sequence[Draft]) -> list[Answer]:
        answers: list[Answer] = []
        for draft in drafts:
            try:
                answers.append(self._one(draft))
            except StoreRejected as exc:
                answers.append(exc)
            except StoreUnavailable:
                return answers + _unknown(drafts[len(answers) :])
        return answers

    def _one(self, draft: Draft) -> Accepted:
        """Look whether the draft is a row already, by the id that we gave it; else write it."""
        with connection(self._pool) as conn:
            row = requests.get(conn, draft.tenant_id, draft.correlation_id)
        if row is not None:
            return Accepted(
                outcome="created",
                correlation_id=row.correlation_id,
                status=row.status,
                version=row.version,
                created_at=row.created_at,
                rung_at=row.created_at,
            )
        with connection(self._pool) as conn:
            return requests.insert(conn, [draft])[0]


def _unknown(drafts: Sequence[Draft]) -> list[Answer]:
    return [OutcomeUnknown(str(draft.correlation_id)) for draft in drafts]
