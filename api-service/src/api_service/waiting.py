"""Long polls: readers that sleep until their request moves, and hold nothing while they do.

One thread per process holds one connection to Redis and hears the moves of all requests that
somebody here waits for. Only it touches that connection: a reader that needs another channel puts
it down and rings the thread's own channel. What is not heard (Redis away, a message lost) is seen
by looking again, at the latest after `_BLIND` seconds.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import redis

from csb_core import keys, metrics
from csb_core.ids import new_id

log = logging.getLogger(__name__)

#: How long a reader sleeps at most before it looks by itself: with Redis to wake it, and without.
_HEARING: Final = 5.0
_BLIND: Final = 1.0
_PASS: Final = 1.0


@dataclass(slots=True, eq=False)
class Place:
    """Where one reader waits for one request."""

    waiting: Waiting
    heard: threading.Event = field(default_factory=threading.Event)

    def pause(self, most: timedelta) -> None:
        """Sleep until the request has moved or it is time to look."""
        rhythm = (_HEARING if self.waiting.hears else _BLIND) * random.uniform(0.8, 1.2)  # noqa: S311
        self.heard.wait(min(most.total_seconds(), rhythm))
        self.heard.clear()


class Waiting:
    """The readers of this process that wait, and the thread that wakes them."""

    def __init__(self, client: redis.Redis, *, most: int) -> None:
        self._redis = client
        self._most = most
        self._own = keys.moved(f"reader-{new_id()}")
        self._lock = threading.Lock()
        self._places: dict[str, set[Place]] = {}
        self._taken = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.hears = False

    @property
    def is_over(self) -> bool:
        """Whether the process is about to end, so that nobody should wait here any longer."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="waiting", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let nobody wait any longer."""
        self._stop.set()
        self._wake_all()

    def stop(self) -> None:
        """Let nobody wait any longer, and end the thread."""
        self.end()
        self._listen_to_more()
        if self._thread is not None:
            self._thread.join(timeout=_PASS * 2)

    @contextmanager
    def place(self, correlation_id: UUID) -> Iterator[Place | None]:
        """A place that hears every move from here on; None when this process holds no more."""
        channel = keys.moved(correlation_id)
        place = Place(self)
        if not self._take(channel, place):
            yield None
            return
        metrics.LONG_POLL_WAITERS.inc()
        try:
            self._listen_to_more()
            place.heard.wait(_PASS / 4)  # the word that Redis listens; a move before it was missed
            place.heard.clear()
            yield place
        finally:
            self._leave(channel, place)

    def run(self) -> None:
        """Listen until stopped, over as many connections as it takes."""
        while not self._stop.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError) as exc:
                log.warning("waiting.connection_lost", extra={"reason": type(exc).__name__})
            self.hears = False
            self._wake_all()
            self._stop.wait(random.uniform(0.5, 1.0))  # noqa: S311

    def _listen(self) -> None:
        client: Any = self._redis  # the library leaves pubsub() untyped
        with client.pubsub() as pubsub:
            subscribed: set[str] = set()
            while not self._stop.is_set():
                with self._lock:
                    wanted = {self._own, *self._places}
                if missing := wanted - subscribed:
                    pubsub.subscribe(*missing)
                if left := subscribed - wanted:
                    pubsub.unsubscribe(*left)
                subscribed = wanted
                self._hear(pubsub.get_message(timeout=_PASS))

    def _hear(self, message: dict[str, Any] | None) -> None:
        """Wake who waits at a channel: for a move, or for the word that Redis now listens to it."""
        if message is None or message["type"] not in ("message", "subscribe"):
            return
        self.hears = True
        with self._lock:
            for place in self._places.get(message["channel"].decode(), ()):
                place.heard.set()

    def _listen_to_more(self) -> None:
        try:
            self._redis.publish(self._own, b"")
        except (redis.RedisError, OSError):
            self.hears = False

    def _take(self, channel: str, place: Place) -> bool:
        with self._lock:
            if self._taken >= self._most or self._stop.is_set():
                return False
            self._taken += 1
            self._places.setdefault(channel, set()).add(place)
            return True

    def _leave(self, channel: str, place: Place) -> None:
        with self._lock:
            self._taken -= 1
            others = self._places[channel]
            others.discard(place)
            if not others:
                del self._places[channel]
        metrics.LONG_POLL_WAITERS.dec()

    def _wake_all(self) -> None:
        with self._lock:
            for places in self._places.values():
                for place in places:
                    place.heard.set()
