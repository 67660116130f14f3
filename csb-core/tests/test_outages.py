"""PostgreSQL and Redis go away and come back under a worker at work: nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import pytest
from tiny import Act, Tiny, done, emptied, eventually

from csb_core.local import ports
from csb_core.local import postgres as embedded_postgres
from csb_core.local import redis as embedded_redis
from csb_core.models import Lease, Outcome
from csb_core.states import Status
from csb_core.testing import database_urls, migrated
from csb_core.worker.action import Attempt


@dataclass(slots=True)
class Work:
    """An action that takes a moment and counts how often it was executed."""

    seconds: float = 0.05
    of: Counter[UUID] = field(default_factory=Counter)

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        time.sleep(self.seconds)
        self.of[lease.correlation_id] += 1
        return done(lease, attempt)


@dataclass(slots=True, kw_only=True)
class Servers:
    """Servers of these tests' own, that may be ended and started again."""

    postgres: embedded_postgres.PostgresServer
    redis: embedded_redis.RedisServer

    @contextmanager
    def without_postgres(self, tiny: Tiny) -> Iterator[None]:
        """PostgreSQL is gone, from one moment to the next, until the block ends."""
        tiny.hang_up()
        self.postgres.stop("immediate")
        try:
            yield
        finally:
            self.postgres = embedded_postgres.start(
                self.postgres.directory, port=self.postgres.port
            )

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Redis is gone until the block ends, and comes back empty."""
        self.redis.stop()
        try:
            yield
        finally:
            shutil.rmtree(self.redis.directory / "data")
            self.redis = embedded_redis.start(
                self.redis.directory, port=self.redis.port, appendonly=False
            )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    servers = Servers(
        postgres=embedded_postgres.start(folder / "postgres"),
        redis=embedded_redis.start(folder / "redis", appendonly=False),
    )
    try:
        migrated(servers.postgres.url)
        yield servers
    finally:
        servers.postgres.stop("immediate")
        servers.redis.stop()


@pytest.fixture
def tiny(servers: Servers) -> Iterator[Tiny]:
    """The line of the provider `tiny` on these servers."""
    database = database_urls(servers.postgres.url, "csb_template")
    emptied(database)
    line = Tiny(database=database, redis_url=servers.redis.url)
    line.redis.flushall()
    yield line
    line.close()


def _flawless(tiny: Tiny, ids: list[UUID], work: Work) -> None:
    """Each was executed once, recorded once, and no worker came too late anywhere."""
    assert work.of == dict.fromkeys(ids, 1)
    assert tiny.broken_trails() == []
    assert not [one for one in ids if "stale_write_rejected" in tiny.trail(one)]


def _ended(tiny: Tiny) -> int:
    return sum(count for status, count in tiny.statuses().items() if status == "SUCCESS")


def test_killed_connections_lose_and_double_nothing(tiny: Tiny) -> None:
    work = Work()
    ids = tiny.submit(150)
    with tiny.working({"noop": Act(do=work)}, lease_seconds=10):
        for _ in range(12):
            tiny.superuser.execute(
                """
                SELECT pg_terminate_backend(pid)
                  FROM pg_stat_activity
                 WHERE usename = 'csb_tiny_user'
                """
            )
            time.sleep(0.08)
        assert tiny.await_ends(ids, within=40) == {"SUCCESS": 150}
    _flawless(tiny, ids, work)


def test_a_restart_of_postgresql_loses_and_doubles_nothing(tiny: Tiny, servers: Servers) -> None:
    work = Work(seconds=0.2)
    ids = tiny.submit(60)
    with tiny.working({"noop": Act(do=work)}, lease_seconds=20) as worker:
        eventually(lambda: _ended(tiny) >= 8)
        with servers.without_postgres(tiny):
            time.sleep(1)
            assert worker.checks()["postgresql"] != "ok"
        assert tiny.await_ends(ids, within=40) == {"SUCCESS": 60}
        eventually(lambda: worker.checks()["postgresql"] == "ok")
    # A claim whose answer was lost is rescued: executed once all the same.
    assert work.of == dict.fromkeys(ids, 1)
    assert tiny.broken_trails() == []


@pytest.mark.slow
def test_an_outage_longer_than_the_leases_ends_each_request_once(
    tiny: Tiny, servers: Servers
) -> None:
    """What was in hand may be executed again: its lease is over. It still ends once."""
    work = Work(seconds=0.2)
    ids = tiny.submit(40)
    with tiny.working({"noop": Act(do=work)}, lease_seconds=1.5):
        eventually(lambda: _ended(tiny) >= 8)
        with servers.without_postgres(tiny):
            time.sleep(2.5)
        assert tiny.await_ends(ids, within=40) == {"SUCCESS": 40}
    assert set(work.of) == set(ids)
    assert sum(work.of.values()) <= 40 + 8  # no more than what was in hand
    assert tiny.broken_trails() == []


@pytest.mark.slow
def test_a_pool_that_had_given_up_comes_back(tiny: Tiny, servers: Servers) -> None:
    """Away for longer than the pool goes on trying by itself."""
    work = Work()
    ids = tiny.submit(20)
    with tiny.working({"noop": Act(do=work)}):
        tiny.await_ends(ids)
        with servers.without_postgres(tiny):
            time.sleep(25)
        ids = tiny.submit(20)
        assert tiny.await_ends(ids, within=30) == {"SUCCESS": 20}


def test_redis_away_and_back_empty_loses_and_doubles_nothing(tiny: Tiny, servers: Servers) -> None:
    work = Work(seconds=0.1)
    ids = tiny.submit(80)
    with tiny.working({"noop": Act(do=work)}, lease_seconds=20) as worker:
        eventually(lambda: _ended(tiny) >= 8)
        with servers.without_redis():
            eventually(lambda: worker.checks()["redis"] != "ok")
            more = tiny.submit(5, ring=False)  # as the API does when it cannot ring
            time.sleep(1)
        assert tiny.await_ends([*ids, *more], within=40) == {"SUCCESS": 85}
    _flawless(tiny, [*ids, *more], work)


@pytest.mark.slow
def test_a_flushed_redis_loses_and_doubles_nothing(tiny: Tiny) -> None:
    work = Work()
    ids = tiny.submit(200)
    with tiny.working({"noop": Act(do=work)}, lease_seconds=20):
        eventually(lambda: _ended(tiny) >= 8)
        for _ in range(3):
            tiny.redis.flushall()
            tiny.redis.script_flush()
            time.sleep(0.3)
        assert tiny.await_ends(ids, within=40) == {"SUCCESS": 200}
    _flawless(tiny, ids, work)


@pytest.mark.slow
def test_both_away_at_once(tiny: Tiny, servers: Servers) -> None:
    work = Work(seconds=0.1)
    ids = tiny.submit(60)
    with tiny.working({"noop": Act(do=work)}, lease_seconds=20):
        eventually(lambda: _ended(tiny) >= 8)
        with servers.without_redis(), servers.without_postgres(tiny):
            time.sleep(0.5)
        assert tiny.await_ends(ids, within=40) == {"SUCCESS": 60}
    assert work.of == dict.fromkeys(ids, 1)
    assert tiny.broken_trails() == []


# -- acknowledgements that are lost on the way


@dataclass(slots=True)
class Wire:
    """A way to PostgreSQL that can lose the answer to one statement: it was done, nobody hears."""

    port: int
    #: What the statement contains whose answers are lost, and how many are.
    text: bytes = b""
    losses: int = 0
    lost: int = 0
    _listener: socket.socket = field(
        default_factory=lambda: socket.create_server((ports.HOST, 0)), init=False
    )

    @property
    def own_port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _connect(self, client: socket.socket) -> None:
        with (
            client,
            socket.create_connection((ports.HOST, self.port)) as server,
            contextlib.suppress(OSError),
        ):
            doomed = threading.Event()
            back = threading.Thread(target=self._back, args=(server, client, doomed), daemon=True)
            back.start()
            while data := client.recv(1_048_576):
                if self.losses and self.text in data:
                    self.losses -= 1
                    doomed.set()
                server.sendall(data)

    def _back(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1_048_576):
                if doomed.is_set():
                    self.lost += 1  # it is ready for the next query: the commit has happened
                    break
                client.sendall(data)
        for one in (client, server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(servers: Servers) -> Iterator[Wire]:
    wire = Wire(servers.postgres.port)
    threading.Thread(target=wire.serve, daemon=True).start()
    yield wire
    wire.close()


@contextmanager
def _working_over(wire: Wire, tiny: Tiny, work: Work, **settings: object) -> Iterator[None]:
    url = tiny.url.replace(f":{wire.port}/", f":{wire.own_port}/")
    with tiny.working({"noop": Act(do=work)}, database_url=url, database_prepare=False, **settings):
        yield


def test_a_record_whose_acknowledgement_is_lost_is_known_again(tiny: Tiny, wire: Wire) -> None:
    """Our own token on the final row means done: no second end, no complaint about a stale one."""
    work = Work()
    with _working_over(wire, tiny, work, lease_seconds=20):
        tiny.await_ends(tiny.submit(3))
        work.of.clear()
        wire.text, wire.losses = b"WITH ended AS", 2
        ids = tiny.submit(10)
        assert tiny.await_ends(ids, within=20) == {"SUCCESS": 10}
        eventually(lambda: wire.lost == 2)
        ids += tiny.submit(5)
        tiny.await_ends(ids, within=20)
    _flawless(tiny, ids, work)
    assert {tiny.row(request)["version"] for request in ids} == {3}


def test_a_claim_whose_acknowledgement_is_lost_is_rescued_and_executed_once(
    tiny: Tiny, wire: Wire
) -> None:
    work = Work()
    with _working_over(wire, tiny, work, lease_seconds=2, heartbeat_seconds=0.5):
        tiny.await_ends(tiny.submit(3))
        work.of.clear()
        wire.text, wire.losses = b"started_at       = COALESCE", 1
        ids = tiny.submit(5)
        assert tiny.await_ends(ids, within=20) == {"SUCCESS": 5}
        assert wire.lost == 1
    _flawless(tiny, ids, work)
    assert max(tiny.row(request)["losses"] for request in ids) == 1


@pytest.mark.slow
def test_a_rescue_whose_acknowledgement_is_lost_is_made_up_for(tiny: Tiny, wire: Wire) -> None:
    """The row says that it was rung, the list does not: it is rung again after the margin."""
    work = Work()
    ids = tiny.submit(5, ring=False)
    tiny.age(60)
    wire.text, wire.losses = b"pg_try_advisory_xact_lock", 1
    with _working_over(wire, tiny, work):
        assert tiny.await_ends(ids, within=20) == {"SUCCESS": 5}
    assert wire.lost == 1
    _flawless(tiny, ids, work)


@pytest.mark.slow
def test_a_heartbeat_whose_acknowledgement_is_lost_loses_no_lease(tiny: Tiny, wire: Wire) -> None:
    work = Work(seconds=3)
    wire.text, wire.losses = b"SET lease_expires_at = now()", 2
    ids = tiny.submit(2)
    with _working_over(wire, tiny, work, lease_seconds=2, heartbeat_seconds=0.4):
        assert tiny.await_ends(ids, within=20) == {"SUCCESS": 2}
    assert wire.lost == 2
    _flawless(tiny, ids, work)


@pytest.mark.slow
def test_a_locked_row_delays_its_batch_and_loses_nothing(tiny: Tiny) -> None:
    """Somebody holds a row in a transaction of his own, for longer than lock_timeout."""
    work = Work(seconds=0)
    ids = tiny.submit(10, ring=False)
    with psycopg.connect(tiny.database.superuser) as other:
        other.execute(
            "SELECT 1 FROM csb_app.csb_requests WHERE correlation_id = %s FOR UPDATE", (ids[4],)
        )
        with tiny.working({"noop": Act(do=work)}, lease_seconds=20):
            tiny.push(*(tiny.message(request) for request in ids))
            time.sleep(6)
            other.rollback()
            assert tiny.await_ends(ids, within=30) == {"SUCCESS": 10}
    assert tiny.status(ids[4]) is Status.SUCCESS
    _flawless(tiny, ids, work)
