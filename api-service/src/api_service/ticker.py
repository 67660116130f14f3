"""A background role: one pass, a pause, one pass."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from csb_core.errors import BridgeError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ticker:
    """Calls `once` again and again until it is stopped; its faults are logged, never fatal."""

    name: str
    every: timedelta = field(kw_only=True)
    once: Callable[[], object] = field(kw_only=True)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make the last pass and end; stopping twice, or before the start, is harmless."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def run(self) -> None:
        """Pass after pass, until stopped; one more pass at the end leaves nothing behind."""
        while not self._stop.wait(self.every.total_seconds()):
            self.run_once()
        self.run_once()

    def run_once(self) -> None:
        """Make one pass."""
        try:
            self.once()
        except BridgeError as exc:
            log.warning("ticker.pass_failed", extra={"ticker": self.name, "code": exc.code})
        except Exception:
            # A bug: whoever relies on this role is served again as soon as it passes.
            log.exception("ticker.crashed", extra={"ticker": self.name})
