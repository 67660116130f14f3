"""Readers that look at every accepted request again and again, while things die around them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from tests.chaos.client import Client


@dataclass(slots=True, kw_only=True)
class Readers:
    """A few threads with one memory: no status may be older than one that anybody has been shown.

    What a read shows is compared with what had been shown before that read began.
    """

    client: Client
    pause: float
    for_ever: bool
    shown: dict[UUID, tuple[int, str]] = field(default_factory=dict)
    regressions: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    reads: int = 0
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Read in rounds until told to stop; what was seen at its end only when `for_ever`."""
        while not self._stop.wait(self.pause):
            for asked in list(self.client.asked):
                if self._stop.is_set():
                    return
                if asked.is_accepted and not self._is_done(asked.correlation_id):
                    self.look(asked.correlation_id)
                    time.sleep(self.pause)

    def look(self, correlation_id: UUID) -> None:
        """Read one request and compare."""
        before = self.shown.get(correlation_id, (0, ""))
        answer = self.client.show(correlation_id)
        with self._lock:
            self.reads += 1
            if answer.status == 200:
                self.hits += answer.headers.get("X-Cache") == "hit"
                now = (int(answer.headers["ETag"].strip('"')), answer.document["status"])
                if now[0] < before[0]:
                    self.regressions.append(f"{correlation_id}: {before} and then {now}")
                self.shown[correlation_id] = max(now, self.shown.get(correlation_id, (0, "")))
            elif answer.status not in (None, 503):
                self.lies.append(f"{correlation_id}: {answer.status} {answer.document}")

    def _is_done(self, correlation_id: UUID) -> bool:
        return not self.for_ever and self.shown.get(correlation_id, (0, ""))[1] in (
            "SUCCESS",
            "FAILED",
        )


@contextmanager
def watched(
    client: Client, *, readers: int = 2, pause: float = 0.02, for_ever: bool = False
) -> Iterator[Readers]:
    """Readers during the block, to whom no status goes back and nothing untrue is said."""
    watch = Readers(client=client, pause=pause, for_ever=for_ever)
    threads = [threading.Thread(target=watch.run, name=f"reader-{n}") for n in range(readers)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        watch._stop.set()
        for thread in threads:
            thread.join()
    assert not watch.regressions, watch.regressions[:3]
    assert not watch.lies, watch.lies[:3]


@contextmanager
def loaded(client: Client, *, per_second: float) -> Iterator[None]:
    """A steady load during the block: each caller waits for its answer, none for another's."""
    stop = threading.Event()

    def run() -> None:
        calls: list[threading.Thread] = []
        while not stop.wait(1 / per_second):
            calls = [call for call in calls if call.is_alive()]
            calls.append(threading.Thread(target=client.attach))
            calls[-1].start()
        for call in calls:
            call.join()

    thread = threading.Thread(target=run, name="load")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
