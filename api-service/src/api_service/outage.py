"""An outage of PostgreSQL is found out once: then calls are refused at once while a probe looks.

Without it every call would find out anew, each wait of its own, one after the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from psycopg_pool import ConnectionPool, PoolTimeout

from csb_core.db import Connection, ping_past
from csb_core.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: An outage may be over in a moment: until it is so old calls wait for that, later ones do not.
_PATIENCE: Final = 0.5


class Outage:
    """Whether a neighbour is away: suspected by callers that it let down, told by a probe.

    A suspicion is not enough: a connection may be lost, or the pool be empty, with nothing amiss.
    """

    def __init__(self, answers: Callable[[], bool], *, every: timedelta) -> None:
        self._answers = answers
        self._every = every.total_seconds()
        self._lock = threading.Lock()
        self._probing = False
        self._began = 0.0
        self._is_back = threading.Event()
        self._is_back.set()
        self._stop = threading.Event()

    def is_over(self) -> bool:
        """Return whether asking is worth its while; waits a moment when the outage is young."""
        left = self._began + _PATIENCE - time.monotonic()
        return self._is_back.wait(max(0.0, left))

    def suspect(self) -> None:
        """Have it looked into, by one thread, until all is well."""
        with self._lock:
            if self._probing or self._stop.is_set():
                return
            self._probing = True
        threading.Thread(target=self._probe, name="outage-probe", daemon=True).start()

    def stop(self) -> None:
        """Look no further."""
        self._stop.set()

    def _probe(self) -> None:
        while not self._stop.is_set() and not self._answers():
            if self._is_back.is_set():
                self._began = time.monotonic()
                self._is_back.clear()
                log.error("store.lost")
            self._stop.wait(self._every)
        with self._lock:
            self._probing = False
        if not self._is_back.is_set() and not self._stop.is_set():
            self._is_back.set()
            log.warning("store.found", extra={"seconds": round(time.monotonic() - self._began, 1)})


class OutagePool(ConnectionPool[Connection]):
    """A pool that knows of an outage; PoolTimeout comes at once while there is one."""

    def __init__(self, conninfo: str, **options: Any) -> None:
        self._outage = Outage(self._answers, every=timedelta(seconds=0.25))
        super().__init__(conninfo, **options)

    def getconn(self, timeout: float | None = None) -> Connection:
        """Lend a connection; raises PoolTimeout when none comes in time, or none can."""
        if not self._outage.is_over():
            raise PoolTimeout("the database is away")
        try:
            return super().getconn(timeout)
        except PoolTimeout:
            self._outage.suspect()
            raise

    def putconn(self, conn: Connection) -> None:
        """Take a connection back; one that was lost is a reason to look."""
        is_lost = conn.closed
        super().putconn(conn)
        if is_lost:
            self._outage.suspect()

    def close(self, timeout: float = 5.0) -> None:
        """Close every connection, and look no further."""
        self._outage.stop()
        super().close(timeout)

    def _answers(self) -> bool:
        try:
            ping_past(self)
        except StoreUnavailable:
            return False
        return True
