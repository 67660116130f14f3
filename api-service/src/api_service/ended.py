"""Documents of ended requests, kept in the process: an end never changes, so it is never stale."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

_MOST: Final = 4096
_LARGEST: Final = 16_384
_KEPT_FOR: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Ended:
    """An ended request as it is sent, and whose it is."""

    tenant_id: UUID
    version: int
    document: bytes
    until: float


class EndedRequests:
    """The ends that were asked for lately; those asked for longest ago give way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[UUID, Ended] = OrderedDict()

    def find(self, tenant_id: UUID, correlation_id: UUID) -> Ended | None:
        """Return the end of this tenant's request, if it is known here."""
        ended = self._kept.get(correlation_id)
        if ended is None or ended.tenant_id != tenant_id or ended.until < time.monotonic():
            return None
        return ended

    def keep(self, tenant_id: UUID, correlation_id: UUID, *, version: int, document: bytes) -> None:
        """Keep the document of a request that has ended."""
        if len(document) > _LARGEST:
            return
        until = time.monotonic() + _KEPT_FOR.total_seconds()
        with self._lock:
            self._kept[correlation_id] = Ended(tenant_id, version, document, until)
            self._kept.move_to_end(correlation_id)
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
