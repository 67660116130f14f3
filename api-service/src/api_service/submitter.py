"""Persists and publishes what this process accepts: all that wait in one statement, one commit.

A commit costs about the same for one request as for two hundred, and so does an LPUSH.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from api_service.bell import Bell
from api_service.errors import OutcomeUnknown
from api_service.grouping import Grouping, NotBegun, NotFinished
from csb_core import metrics, requests
from csb_core.db import Pool, connection
from csb_core.errors import BridgeError, StoreRejected, StoreUnavailable
from csb_core.models import Draft
from csb_core.requests import Accepted

Answer = Accepted | BridgeError

_MOST_AT_ONCE: Final = 200

#: A batch takes its time; from this size on it goes by a lane of its own, past the others.
_BATCH_FROM: Final = 50
_PATIENCE: Final = timedelta(seconds=15)


class Submitter:
    """The second half of accepting: persist, then publish."""

    def __init__(self, pool: Pool, bell: Bell) -> None:
        self._pool = pool
        self._bell = bell
        self._singles = self._lane()
        self._batches = self._lane()

    def _lane(self) -> Grouping[Draft, Answer]:
        """One statement at a time: with two, groups are half as large, and a row costs more."""
        return Grouping(self._write, most=_MOST_AT_ONCE, abreast=1, patience=_PATIENCE)

    def submit(self, drafts: Sequence[Draft]) -> Sequence[Answer]:
        """Persist and publish; returns what became of each draft, in their order."""
        try:
            lane = self._singles if len(drafts) < _BATCH_FROM else self._batches
            return lane.ask(drafts)
        except NotBegun:
            return [StoreUnavailable("the database is too busy")] * len(drafts)
        except NotFinished:
            return _unknown(drafts)

    def _write(self, drafts: Sequence[Draft]) -> Sequence[Answer]:
        """Persist in one commit, and publish after it."""
        answers = self._persist(drafts)
        self._bell.ring(
            (draft, answer)
            for draft, answer in zip(drafts, answers, strict=True)
            if isinstance(answer, Accepted)
        )
        return answers

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
        """Write the draft, unless it is a row already by the id that we gave it."""
        accepted = self._stored(draft)
        if accepted is not None:
            return accepted
        try:
            with connection(self._pool) as conn:
                return requests.insert(conn, [draft])[0]
        except StoreRejected:
            accepted = self._stored(draft)  # our first commit may have come through just now
            if accepted is None:
                raise
            return accepted

    def _stored(self, draft: Draft) -> Accepted | None:
        with connection(self._pool) as conn:
            row = requests.get(conn, draft.tenant_id, draft.correlation_id)
        if row is None:
            return None
        return Accepted(
            outcome="created",
            correlation_id=row.correlation_id,
            status=row.status,
            version=row.version,
            created_at=row.created_at,
            rung_at=row.created_at,
        )


def _unknown(drafts: Sequence[Draft]) -> list[Answer]:
    return [OutcomeUnknown(str(draft.correlation_id)) for draft in drafts]
