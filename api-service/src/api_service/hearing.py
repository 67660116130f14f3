"""Hears from the API's other processes which utils have changed."""

from __future__ import annotations

import logging
import random
import threading
from typing import Any, Final
from uuid import UUID

import redis

from api_service.catalogue import Catalogue
from csb_core import keys

log = logging.getLogger(__name__)

_PASS: Final = 1.0


class Hearing:
    """One thread and one connection to Redis; while it is away, the catalogue knows."""

    def __init__(self, client: redis.Redis, catalogue: Catalogue) -> None:
        self._redis = client
        self._catalogue = catalogue
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="hear-utils", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=_PASS * 2)

    def run(self) -> None:
        """Listen until stopped, over as many connections as it takes."""
        while not self._stop.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError) as exc:
                log.warning("hearing.connection_lost", extra={"reason": type(exc).__name__})
            self._catalogue.hears = False
            self._stop.wait(random.uniform(0.5, 1.0))  # noqa: S311

    def _listen(self) -> None:
        client: Any = self._redis  # the library leaves pubsub() untyped
        with client.pubsub() as pubsub:
            pubsub.subscribe(keys.utils_changed())
            while not self._stop.is_set():
                self._hear(pubsub.get_message(timeout=_PASS))

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":
            self._catalogue.forget(None)  # what was said while nobody listened
            self._catalogue.hears = True
        elif message["type"] == "message":
            self._catalogue.forget(_id_of(message["data"]))


def _id_of(data: bytes) -> UUID | None:
    try:
        return UUID(data.decode())
    except ValueError:
        return None  # not understood: all of them, to be safe
