"""The one table of states and moves; the database mirrors it and refuses every other move.

`docs/states.md` is drawn from this table, and a test walks every pair for every role.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a request stands."""

    #: Accepted and durable; waiting to be claimed (also between two attempts).
    PENDING = "PENDING"
    #: Claimed by one worker under a lease.
    IN_PROGRESS = "IN_PROGRESS"
    #: Ended: the wanted state holds.
    SUCCESS = "SUCCESS"
    #: Ended: it did not work, and the error says why.
    FAILED = "FAILED"
    #: Ended by its tenant before anybody claimed it.
    CANCELLED = "CANCELLED"


class Mover(StrEnum):
    """Who may move a request; the database knows them by their roles."""

    API = "api"
    WORKER = "worker"


#: Every allowed move, who may make it, and what it means.
MOVES: Final[dict[tuple[Status, Status], tuple[Mover, str]]] = {
    (Status.PENDING, Status.IN_PROGRESS): (Mover.WORKER, "claimed"),
    (Status.PENDING, Status.CANCELLED): (Mover.API, "cancelled"),
    (Status.IN_PROGRESS, Status.PENDING): (Mover.WORKER, "given back, to be tried again"),
    (Status.IN_PROGRESS, Status.SUCCESS): (Mover.WORKER, "recorded as done"),
    (Status.IN_PROGRESS, Status.FAILED): (Mover.WORKER, "recorded as failed"),
}

#: States that never change again.
FINAL: Final[frozenset[Status]] = frozenset(Status) - {origin for origin, _ in MOVES}
