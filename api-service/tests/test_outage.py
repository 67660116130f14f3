"""PostgreSQL is really stopped: calls are refused at once, truthfully, and served soon after."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg_pool import PoolTimeout
from pydantic import SecretStr

from api_service.app import create_app, deps_of
from api_service.outage import Outage, OutagePool
from csb_core import db
from csb_core.config import ApiSettings
from csb_core.local import postgres as embedded_postgres
from csb_core.local.postgres import PostgresServer
from csb_core.testing import (
    Database,
    database_urls,
    make_api_key,
    make_payload,
    make_tenant,
    migrated,
)

URL = "/api/v1/requests"
NO_ID = f"{URL}/01890a5d-ac96-774b-bcce-b302099a8057"

#: What is asserted of an answer that should take half a second, on a busy machine.
QUICK = 2.0


def _eventually(holds: Callable[[], object], within: float = 20.0) -> None:
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@dataclass(slots=True, kw_only=True)
class Server:
    """A PostgreSQL of these tests' own, that may be stopped."""

    running: PostgresServer
    database: Database

    def stop(self) -> None:
        """End it from one moment to the next."""
        self.running.stop("immediate")

    def start(self) -> None:
        """Start it again where it was."""
        self.running = embedded_postgres.start(self.running.directory, port=self.running.port)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = embedded_postgres.start(tmp_path_factory.mktemp("outage") / "postgres")
    database = database_urls(running.url, migrated(running.url))
    server = Server(running=running, database=database)
    yield server
    server.running.stop("immediate")


@pytest.fixture
def api(server: Server, settings: ApiSettings) -> Iterator[Flask]:
    """An API on that server, as patient with its pool as it is by default."""
    changed = {"database_url": SecretStr(server.database.api), "pool_timeout_seconds": 3.0}
    app = create_app(settings.model_copy(update=changed))
    yield app
    deps_of(app).close()


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and how long it took."""

    key: str
    status: int
    document: Any
    retry_after: str | None
    seconds: float


def _post(client: FlaskClient, key: str) -> Said:
    began = time.monotonic()
    answered = client.post(URL, json=make_payload(client_request_id=key))
    seconds = time.monotonic() - began
    retry_after = answered.headers.get("Retry-After")
    return Said(key, answered.status_code, answered.get_json(), retry_after, seconds)


def _is_back(client: FlaskClient, said: list[Said]) -> bool:
    said.append(_post(client, f"back-{len(said)}"))
    return said[-1].status == 202


def test_calls_are_refused_at_once_and_truthfully_and_served_again_soon(
    server: Server, api: Flask
) -> None:
    tenant_id = make_tenant(server.database.admin)
    token = make_api_key(server.database.admin, tenant_id)

    def client() -> FlaskClient:
        made = api.test_client()
        made.environ_base["HTTP_X_AUTH_TOKEN"] = token
        return made

    said = [_post(client(), "before")]
    over = threading.Event()

    def keep_asking(name: str) -> list[Said]:
        ours, answers = client(), list[Said]()
        while not over.is_set():
            answers.append(_post(ours, f"{name}-{len(answers)}"))
            time.sleep(0.02)
        return answers

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(keep_asking, f"caller-{n}") for n in range(8)]
        time.sleep(0.3)
        server.stop()
        _eventually(lambda: not deps_of(api).pool._outage._is_back.is_set())  # type: ignore[attr-defined]
        time.sleep(0.7)

        began = time.monotonic()
        ours = client()
        for url in (URL, NO_ID, f"{NO_ID}/audit", "/ready"):
            asked = time.monotonic()
            answered = ours.get(url)
            assert answered.status_code == 503, url
            assert time.monotonic() - asked < QUICK, url
        late = [_post(ours, f"late-{n}") for n in range(20)]
        assert time.monotonic() - began < 2 * QUICK  # they do not add up
        assert {(one.status, one.document["code"]) for one in late} == {(503, "store_unavailable")}
        assert all(one.retry_after for one in late)

        server.start()
        back = time.monotonic()
        _eventually(lambda: _is_back(ours, said))
        assert time.monotonic() - back < 2 * QUICK
        over.set()
        said += late + [one for asked in asking for one in asked.result()]

    with psycopg.connect(server.database.superuser) as conn:
        rows = conn.execute("SELECT client_request_id FROM csb_app.csb_requests").fetchall()
    stored = {row[0] for row in rows}
    assert {one.status for one in said} == {202, 503}
    for one in said:
        if one.status == 202:
            assert one.key in stored
        elif one.document["code"] == "store_unavailable":
            assert one.key not in stored, "it was told that nothing was stored"
        else:
            assert one.document["outcome"] == "unknown"
    assert max(one.seconds for one in said) < 5


def test_an_exhausted_pool_is_no_outage(database: Database) -> None:
    pool = db.open_pool(
        database.api, name="t", least=1, most=1, timeout=timedelta(seconds=0.2), kind=OutagePool
    )
    try:
        with pool.connection(timeout=10) as held:
            for _ in range(3):
                with pytest.raises(PoolTimeout, match="couldn't get"):
                    pool.getconn()
            held.execute("SELECT 1")
        with pool.connection(timeout=10) as conn:
            conn.execute("SELECT 1")
    finally:
        pool.close()


def test_one_lost_connection_is_no_outage(database: Database) -> None:
    pool = db.open_pool(
        database.api, name="t", least=1, most=2, timeout=timedelta(seconds=10), kind=OutagePool
    )
    try:
        for _ in range(3):
            with pytest.raises(psycopg.OperationalError), pool.connection() as conn:
                conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            with pool.connection() as conn:
                conn.execute("SELECT 1")
    finally:
        pool.close()


def test_one_probe_looks_however_many_suspect() -> None:
    answers, asked, abreast, most = threading.Event(), list[float](), [0], [0]

    def probe() -> bool:
        abreast[0] += 1
        most[0] = max(most[0], abreast[0])
        asked.append(time.monotonic())
        time.sleep(0.02)
        abreast[0] -= 1
        return answers.is_set()

    outage = Outage(probe, every=timedelta(milliseconds=20))
    assert outage.is_over()
    for _ in range(20):
        outage.suspect()
    _eventually(lambda: len(asked) > 3)
    for _ in range(20):
        outage.suspect()
    began = time.monotonic()
    waited = outage.is_over()
    again = outage.is_over()
    assert (waited, again) == (False, False)
    assert time.monotonic() - began < QUICK

    answers.set()
    _eventually(outage.is_over)
    looked = len(asked)
    time.sleep(0.1)
    assert len(asked) == looked  # nobody looks while all is well
    assert most == [1]
    outage.stop()
    outage.suspect()
    assert len(asked) == looked


def test_young_outage_is_waited_for() -> None:
    answers = threading.Event()
    outage = Outage(answers.is_set, every=timedelta(milliseconds=20))
    outage.suspect()
    _eventually(lambda: not outage._is_back.is_set())
    threading.Timer(0.1, answers.set).start()
    assert outage.is_over()
    outage.stop()
