"""Long polls are woken by what they hear: here nobody looks by himself, so silence would show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api_service import waiting
from api_service.app import deps_of
from api_service.reading import Reader
from api_service.waiting import Waiting
from csb_core import keys
from csb_core.ids import new_id
from csb_core.states import Status
from csb_core.testing import make_payload

URL = "/api/v1/requests"

#: Far longer than any of these tests takes: what sleeps so long does not wake by itself.
AGES = 60.0


@pytest.fixture(autouse=True)
def _nobody_looks_by_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listening thread and the readers sleep until they are woken."""
    for rhythm in ("_PASS", "_HEARING", "_BLIND"):
        monkeypatch.setattr(waiting, rhythm, AGES)


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    """The Redis over which moves are told."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def _eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + AGES / 3
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_reader_is_heard_by_the_thread_at_once_and_hears_the_move(store: redis.Redis) -> None:
    """The thread listens already, to nothing of this reader's, when the reader takes its place."""
    readers = Waiting(store, most=2)
    readers.start()
    try:
        _eventually(lambda: readers.hears)
        for wanted in (new_id(), new_id()):
            began = time.monotonic()
            with readers.place(wanted) as place:
                assert place is not None
                assert time.monotonic() - began < AGES / 6  # not by the end of its patience
                assert store.publish(keys.moved(wanted), b"") == 1
                assert place.heard.wait(AGES / 6)
    finally:
        began = time.monotonic()
        readers.stop()
    assert time.monotonic() - began < AGES / 6  # nor does its end wait for the end of a pass


def test_wait_reads_once_when_it_begins_and_once_for_each_move(
    app: Flask,
    client: FlaskClient,
    work: Callable[[str, Status], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = client.post(URL, json=make_payload()).headers["Location"]
    read, reads = Reader.read, list[UUID]()

    def count(reader: Reader, tenant_id: UUID, correlation_id: UUID) -> Any:
        reads.append(correlation_id)
        return read(reader, tenant_id, correlation_id)

    monkeypatch.setattr(Reader, "read", count)
    _eventually(lambda: deps_of(app).waiting.hears)

    def move() -> None:
        _eventually(lambda: len(reads) == 2)  # once to see that it is there, once in its place
        work(url.rpartition("/")[2], Status.SUCCESS)

    worker = threading.Thread(target=move)
    worker.start()
    began = time.monotonic()
    shown = client.get(f"{url}?wait=30")
    worker.join()

    assert shown.get_json()["status"] == "SUCCESS"
    assert time.monotonic() - began < 20
    assert len(reads) == 3
