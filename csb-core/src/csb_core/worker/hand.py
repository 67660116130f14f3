"""What one process holds: its leases, and how long each of them is still good for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from csb_core.models import Lease


@dataclass(slots=True, kw_only=True)
class Holding:
    """One lease in hand. Times are of `time.monotonic`; `expires` errs on the early side."""

    lease: Lease
    expires: float
    due: float
    #: Claimed while nothing else was in hand; it takes no slot.
    alone: bool = False
    lost: bool = False
    abandoned: bool = False

    def is_good_for(self, span: timedelta) -> bool:
        """Whether the lease is ours and stays so for `span` without another heartbeat."""
        return not self.lost and time.monotonic() + span.total_seconds() < self.expires


@dataclass(slots=True)
class Hand:
    """The holdings of a process, shared by its threads.

    After an outage a process may claim a request again whose earlier attempt still runs in one of
    its threads: two holdings then, told apart by their tokens.
    """

    _held: dict[tuple[UUID, int], Holding] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, holding: Holding) -> None:
        """Take a lease into the hand."""
        with self._lock:
            self._held[holding.lease.claim] = holding

    def drop(self, holdings: Iterable[Holding]) -> None:
        """Let go of what was recorded or lost."""
        with self._lock:
            for holding in holdings:
                self._held.pop(holding.lease.claim, None)

    def to_extend(self) -> list[Holding]:
        """What the heartbeat extends; it marks what is past its deadline as abandoned first."""
        now = time.monotonic()
        with self._lock:
            for holding in self._held.values():
                if now >= holding.due:
                    holding.abandoned = True
            return [h for h in self._held.values() if not h.abandoned and not h.lost]

    def abandoned(self) -> list[Holding]:
        """What did not end by its deadline; its thread cannot be stopped, its process can."""
        with self._lock:
            return [h for h in self._held.values() if h.abandoned]

    def by_tenant(self) -> Counter[str]:
        """How many slots each tenant holds; what was claimed alone holds none."""
        with self._lock:
            return Counter(str(h.lease.tenant_id) for h in self._held.values() if not h.alone)

    def __len__(self) -> int:
        """How many leases are in hand, the abandoned ones left out."""
        with self._lock:
            return sum(not h.abandoned for h in self._held.values())
