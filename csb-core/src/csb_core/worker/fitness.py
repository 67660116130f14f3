"""Whether this worker may do its work: its own configuration, as the other side sees it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from csb_core.errors import BridgeError, ConfigurationError
from csb_core.worker.slots import Slots

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 5.0
CLOSED_FOR: Final = "unfit"


def fit() -> None:
    """The probe of a worker that has nothing to ask of anybody."""


@dataclass(slots=True, kw_only=True)
class Fitness:
    """One thread's work: while our own configuration is at fault, take no work and ask again.

    `probe` raises ConfigurationError as long as it is. Requests are not burnt by it: those in hand
    are given back without counting an attempt, the others stay where they are.
    """

    probe: Callable[[], None]
    slots: Slots
    stop: threading.Event
    reason: str | None = None
    _asked: threading.Event = field(default_factory=threading.Event)

    def begin_unfit(self, reason: str) -> None:
        """Take no work before the first probe has passed; called before anything runs."""
        self.reason = reason
        self.slots.close(CLOSED_FOR)

    def note(self, reason: str) -> None:
        """An action met the fault: close until the probe passes."""
        self._judge(reason)
        self._asked.set()

    def run(self) -> None:
        """Probe at the start, and every few seconds while unfit, until told to stop."""
        self._asked.set()
        while not self.stop.is_set():
            if not self._asked.wait(EVERY_SECONDS):
                continue
            self._asked.clear()
            if not self.run_once():
                self.stop.wait(EVERY_SECONDS)
                self._asked.set()

    def run_once(self) -> bool:
        """Ask once; returns whether we are fit. A side that does not answer proves nothing."""
        try:
            self.probe()
        except ConfigurationError as exc:
            self._judge(str(exc))
            return False
        except BridgeError as exc:
            logger.warning("worker.probe_unanswered", extra={"reason": str(exc)})
            return self.reason is None
        self._judge(None)
        return True

    def _judge(self, reason: str | None) -> None:
        if reason is not None and reason != self.reason:
            logger.error("worker.misconfigured", extra={"reason": reason})
        self.reason = reason
        if reason is None:
            self.slots.open(CLOSED_FOR)
        else:
            self.slots.close(CLOSED_FOR)
