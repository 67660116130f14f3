"""The rescuer: what it makes of each row, and that it neither floods a list nor blocks others."""

from __future__ import annotations

import inspect
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer
from psycopg.types.json import Jsonb
from tiny import PROVIDER, Tiny, make_end

from csb_core import keys, leases, queue, rescues
from csb_core.cache import StatusCache
from csb_core.errors import QueueUnavailable
from csb_core.local import ports
from csb_core.queue import decode
from csb_core.rescues import LOSS, POISON, Rescued
from csb_core.states import Status
from csb_core.worker import rescuer as rescuing
from csb_core.worker.main import WorkerProcess
from csb_core.worker.rescuer import HIGH_WATER, MARGIN, MOST, Rescuer

NOW = "now()"
AGO = "now() - interval '10 s'"
AHEAD = "now() + interval '10 s'"
NEVER = "'-infinity'"


def made(tiny: Tiny, **columns: str) -> UUID:
    """A row in any state whatever, whole SQL expressions given."""
    [request] = tiny.submit(1, ring=False)
    parts = [
        sql.SQL("{} = ").format(sql.Identifier(name)) + sql.SQL(expression)
        for name, expression in columns.items()
    ]
    with psycopg.connect(tiny.database.superuser) as conn:
        conn.execute("SET session_replication_role = replica")  # no triggers
        if parts:
            conn.execute(sql.SQL("UPDATE csb_app.csb_requests SET ") + sql.SQL(", ").join(parts))
    return request


def rescue(tiny: Tiny, **given: Any) -> list[Rescued]:
    options = {"worker": "rescuer", "oldest": None, "margin": MARGIN, "room": 100, **given}
    return rescues.rescue(tiny.store, PROVIDER, **options)


HELD = {"status": "'IN_PROGRESS'", "lease_token": "3", "lease_owner": "'w1'", "attempt": "3"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, None, id="just rung"),
        pytest.param({"rung_at": AGO}, {"status": "PENDING"}, id="its message was lost"),
        pytest.param({"rung_at": NEVER}, {"status": "PENDING"}, id="a retry that fell due"),
        pytest.param({"rung_at": AGO, "available_at": AHEAD}, None, id="a retry that is not due"),
        pytest.param(
            {**HELD, "lease_expires_at": AHEAD, "rung_at": AGO}, None, id="held under a live lease"
        ),
        pytest.param(
            {**HELD, "lease_expires_at": AGO},
            {
                "status": "PENDING",
                "losses": 1,
                "lone_losses": 0,
                "error": LOSS,
                "attempt": 3,
                "lease_token": 3,
                "retries": 0,
                "moved_by": "rescuer",
                "lease_expires_at": None,
            },
            id="its lease ran out",
        ),
        pytest.param(
            {**HELD, "lease_expires_at": AGO, "losses": "5"},
            {"status": "PENDING", "losses": 6, "lone_losses": 0},
            id="losses among neighbours never fail it",
        ),
        pytest.param(
            {**HELD, "lease_expires_at": AGO, "losses": "2", "alone": "true"},
            {"status": "PENDING", "losses": 3, "lone_losses": 1, "alone": False},
            id="lost alone for the first time",
        ),
        pytest.param(
            {
                **HELD,
                "lease_expires_at": AGO,
                "losses": "3",
                "lone_losses": "1",
                "alone": "true",
            },
            {
                "status": "FAILED",
                "losses": 4,
                "lone_losses": 2,
                "error": POISON,
                "lease_expires_at": None,
            },
            id="lost alone twice: poison",
        ),
        pytest.param(
            {**HELD, "lease_expires_at": AGO, "losses": "9", "lone_losses": "1"},
            {"status": "PENDING", "lone_losses": 1},
            id="lost alone once, then among neighbours",
        ),
        pytest.param(
            {"status": "'SUCCESS'", "finished_at": AGO, "rung_at": AGO}, None, id="ended well"
        ),
        pytest.param(
            {"status": "'FAILED'", "finished_at": AGO, "rung_at": AGO}, None, id="ended badly"
        ),
        pytest.param(
            {"status": "'CANCELLED'", "finished_at": AGO, "rung_at": AGO}, None, id="cancelled"
        ),
        pytest.param(
            {"cloud_provider": "'aws'", "rung_at": AGO}, None, id="somebody else's provider"
        ),
    ],
)
def test_what_it_makes_of_a_row(
    tiny: Tiny, before: dict[str, str], after: dict[str, Any] | None
) -> None:
    request = made(tiny, **before)
    was = tiny.row(request)
    rescued = rescue(tiny)
    now = tiny.row(request)

    if after is None:
        assert rescued == []
        assert now == was
        return
    [row] = rescued
    moved = was["status"] == "IN_PROGRESS"
    assert (row.correlation_id, row.moved, row.status) == (request, moved, now["status"])
    assert now["version"] == was["version"] + moved == row.version
    assert {name: now[name] for name in after} == after
    assert abs(now["rung_at"] - datetime.now(tz=UTC)) < timedelta(seconds=5)
    if not moved:
        assert now == {**was, "rung_at": now["rung_at"]}  # a ring is no move


@pytest.mark.parametrize(
    ("rung", "oldest", "rings"),
    [
        (10, None, 1),  # an empty list
        (1, None, 0),  # its message may be on its way
        (10, 5, 1),  # the list is first in, first out: its message must be gone
        (10, 9, 0),  # ... or nearly so
        (10, 30, 0),  # its message still stands behind the oldest
        (10, -3600, 1),  # a message from the future proves nothing
        (1, -3600, 0),
    ],
)
def test_it_rings_only_for_what_cannot_stand_in_the_list(
    tiny: Tiny, rung: float, oldest: float | None, rings: int
) -> None:
    [request] = tiny.submit(1, ring=False)
    tiny.age(rung)
    [(at,)] = tiny.superuser.execute("SELECT now()").fetchall()
    since = None if oldest is None else at - timedelta(seconds=oldest)
    assert [row.correlation_id for row in rescue(tiny, oldest=since)] == [request] * rings


def test_it_rings_the_longest_waiting_first_and_never_more_than_there_is_room_for(
    tiny: Tiny,
) -> None:
    ids = tiny.submit(10, ring=False)
    for n, request in enumerate(ids):
        tiny.age(100 - n, request)
    assert [row.correlation_id for row in rescue(tiny, room=3)] == ids[:3]
    assert {row.correlation_id for row in rescue(tiny, room=100)} == set(ids[3:])
    assert rescue(tiny, room=100) == []
    tiny.age(60)
    assert rescue(tiny, room=0) == []


def test_leases_run_out_also_when_there_is_no_room_to_ring(tiny: Tiny) -> None:
    [request] = tiny.submit(1)
    tiny.claim(request)
    tiny.expire(request)
    assert [row.moved for row in rescue(tiny, room=0)] == [True]
    assert tiny.status(request) is Status.PENDING


def test_the_late_worker_of_a_rescued_request_writes_nothing(tiny: Tiny) -> None:
    [request] = tiny.submit(1)
    [lease] = tiny.claim(request)
    tiny.expire(request)
    rescue(tiny)
    assert leases.record(tiny.store, [make_end(lease)], worker="w1") == {}
    assert tiny.trail(request) == ["created", "PENDING>IN_PROGRESS", "IN_PROGRESS>PENDING"]


def test_two_at_once_ring_once(tiny: Tiny) -> None:
    ids = tiny.submit(200, ring=False)
    tiny.age(60)
    together = threading.Barrier(4)
    found: list[Rescued] = []

    def one() -> None:
        with psycopg.connect(tiny.url, autocommit=True) as conn:
            together.wait()
            for _ in range(5):
                found.extend(
                    rescues.rescue(
                        conn, PROVIDER, worker="r", oldest=None, margin=MARGIN, room=1000
                    )
                )

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(row.correlation_id for row in found) == dict.fromkeys(ids, 1)


def test_while_one_passes_the_others_spare_themselves_the_look(tiny: Tiny) -> None:
    ids = tiny.submit(3, ring=False)
    tiny.age(60)
    with psycopg.connect(tiny.url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('csb.rescue.tiny', 0))")
        assert rescue(tiny) == []  # at once, without waiting
        other.rollback()
        assert len(rescue(tiny)) == len(ids)


@contextmanager
def _stopped_in_a_pass(tiny: Tiny, **session: str) -> Iterator[psycopg.Connection]:
    """A process that has sent the rescuer's statement and reads no more, as if by SIGSTOP."""
    with closing(psycopg.connect(tiny.url, autocommit=True)) as conn:
        for name, value in session.items():
            conn.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        statement = PostgresQuery(Transformer(conn))
        statement.convert(
            inspect.getsource(rescues.rescue).split('"""')[3],
            {
                "provider": PROVIDER,
                "worker": "stopped",
                "oldest": None,
                "bounds": "[]",
                "margin": MARGIN,
                "room": MOST,
                "lone_losses": 2,
                "most_expired": 1000,
                "loss": Jsonb(LOSS),
                "poison": Jsonb(POISON),
            },
        )
        conn.pgconn.send_query_params(
            statement.query,
            statement.params,
            param_formats=statement.formats,
            param_types=statement.types,
        )
        conn.pgconn.flush()
        yield conn


def _holds_the_gate(tiny: Tiny) -> bool:
    return bool(
        tiny.superuser.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'").fetchall()
    )


def _await(holds: Callable[[], bool], within: float) -> bool:
    end = time.monotonic() + within
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def test_a_stopped_rescuer_keeps_nobody_from_rescuing(tiny: Tiny) -> None:
    """What it was sent fits into the kernel's buffers: the statement ends without its help."""
    ids = tiny.submit(500, ring=False)
    tiny.age(60)
    with _stopped_in_a_pass(tiny):
        assert _await(lambda: rescue(tiny) == [] and not _holds_the_gate(tiny), 3)
        tiny.age(60)
        assert len(rescue(tiny, room=1000)) == len(ids)


def test_a_stopped_rescuer_with_more_rows_than_buffers_is_cut_off(tiny: Tiny) -> None:
    """It would hold the gate and its rows for as long as it is stopped: see tcp_user_timeout."""
    ids = tiny.submit(400, ring=False, ballast="x" * 30_000)
    tiny.age(60)
    with _stopped_in_a_pass(tiny, tcp_user_timeout="1s"):
        assert _await(lambda: _holds_the_gate(tiny), 3), "the test needs more ballast"
        assert rescue(tiny) == []
        assert _await(lambda: not _holds_the_gate(tiny), 8)
        assert len(rescue(tiny, room=1000)) == len(ids)


# -- the pass around the statement: list, rows and cache


@pytest.fixture
def rescuer(tiny: Tiny) -> Iterator[Rescuer]:
    """A rescuer that passes when it is told to."""
    worker: WorkerProcess = tiny.worker()
    worker.pool.wait()
    yield worker.rescuer
    worker.pool.close()


def test_a_pass_rings_as_the_api_did(tiny: Tiny, rescuer: Rescuer) -> None:
    [request] = tiny.submit(1, "noop", ring=False, colour="red")
    tiny.age(60)
    rescuer.run_once()
    [raw] = tiny.standing()
    message = decode(raw)
    row = tiny.row(request)
    assert message.correlation_id == request
    assert message.payload == row["payload"]
    assert message.published_at == row["rung_at"]
    assert raw == tiny.message(request)


def test_a_pass_drops_the_cached_status_of_what_it_moved(tiny: Tiny, rescuer: Rescuer) -> None:
    [request] = tiny.submit(1)
    tiny.claim(request)
    tiny.expire(request)
    cache = StatusCache(tiny.redis)
    tiny.redis.set(keys.status(request), "IN_PROGRESS, says the cache")
    rescuer.run_once()
    assert cache.read(tiny.tenant, request) is None
    assert tiny.redis.get(keys.status(request)) is None


def test_a_list_that_cannot_be_read_at_its_end_is_nobodys_excuse(
    tiny: Tiny, rescuer: Rescuer
) -> None:
    [request] = tiny.submit(1, ring=False)
    tiny.age(60)
    tiny.push(b"garbage")
    assert [row.correlation_id for row in rescuer.run_once()] == [request]


def test_without_redis_leases_run_out_all_the_same_and_rings_follow(
    tiny: Tiny, rescuer: Rescuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescuing, "MARGIN", timedelta(seconds=0.2))
    held, waiting = tiny.submit(2, ring=False)
    tiny.claim(held)
    tiny.expire(held)
    tiny.age(60, waiting)
    nobody = queue.connect(f"redis://127.0.0.1:{ports.free_port()}", timeout=timedelta(seconds=1))
    deaf = replace(rescuer, queue=queue.Queue(nobody, PROVIDER))
    with pytest.raises(QueueUnavailable):
        deaf.run_once()
    assert tiny.statuses() == {"PENDING": 2}
    assert tiny.depth() == 0

    time.sleep(0.3)
    assert {row.correlation_id for row in rescuer.run_once()} == {held, waiting}
    assert tiny.depth() == 2


def test_a_long_backlog_is_not_doubled(tiny: Tiny, rescuer: Rescuer) -> None:
    """20,000 wait in the list for an hour already; the rescuer leaves list and rows alone."""
    tiny.backlog(20_000, ago=3600)
    before = _rung(tiny)
    began = time.monotonic()
    for _ in range(5):
        assert rescuer.run_once() == []
    assert time.monotonic() - began < 2
    assert tiny.depth() == 20_000
    assert _rung(tiny) == before

    # Half of it is popped by workers that are killed: only that half is rung again.
    tiny.pop(12_000)
    assert _passes(rescuer) == HIGH_WATER - 8_000
    assert tiny.depth() == HIGH_WATER
    assert _doubled(tiny) == 0


def test_a_flushed_list_of_20000_is_rung_again_in_portions(tiny: Tiny, rescuer: Rescuer) -> None:
    tiny.backlog(20_000, ago=60)
    tiny.redis.flushall()
    assert _passes(rescuer) == HIGH_WATER
    assert tiny.depth() == HIGH_WATER
    assert _passes(rescuer) == 0  # room, not time, holds the rest back

    # Workers take it in; the rest follows as room is made, nothing twice.
    popped: Counter[UUID] = Counter()
    for _ in range(10):
        new = [decode(raw).correlation_id for raw in tiny.pop(4_000)]
        popped.update(new)
        tiny.superuser.execute(
            """
            UPDATE csb_app.csb_requests
               SET available_at = now() + interval '1 h'
             WHERE correlation_id = ANY (%s)
            """,
            (new,),
        )
        _passes(rescuer)
        if len(popped) == 20_000:
            break
    assert len(popped) == 20_000
    assert set(popped.values()) == {1}


def _passes(rescuer: Rescuer) -> int:
    """Pass as `run` does, until a pass is not full; returns how many were rung."""
    total = 0
    while found := rescuer.run_once():
        total += len(found)
        if len(found) < MOST:
            break
    return total


def _rung(tiny: Tiny) -> Any:
    return tiny.superuser.execute(
        "SELECT count(*), min(rung_at), max(rung_at) FROM csb_app.csb_requests"
    ).fetchone()


def _doubled(tiny: Tiny) -> int:
    standing = Counter(decode(raw).correlation_id for raw in tiny.standing())
    return sum(count > 1 for count in standing.values())


def test_a_message_from_the_future_at_the_end_of_the_list_stops_nobody(
    tiny: Tiny, rescuer: Rescuer
) -> None:
    [request] = tiny.submit(1, ring=False)
    tiny.age(60)
    message = decode(tiny.message(request))
    tiny.push(queue.encode(replace(message, published_at=datetime(9999, 12, 31, tzinfo=UTC)), "x"))
    assert [row.correlation_id for row in rescuer.run_once()] == [request]


def test_it_runs_until_told_to_stop_whatever_fails(
    tiny: Tiny, rescuer: Rescuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = threading.Event()
    calls = 0

    def run_once(_: Rescuer) -> list[Rescued]:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise QueueUnavailable("Redis is away")
        passed.set()
        return []

    monkeypatch.setattr(Rescuer, "run_once", run_once)
    thread = threading.Thread(target=replace(rescuer, every=timedelta(seconds=0.01)).run)
    thread.start()
    assert passed.wait(5)
    rescuer.stop.set()
    thread.join(5)
    assert not thread.is_alive()
    del tiny


def test_the_pause_is_jittered_so_that_workers_do_not_pass_in_step(rescuer: Rescuer) -> None:
    pauses = {rescuer._pause() for _ in range(50)}
    assert len(pauses) > 40
    assert all(0 < pause <= rescuer.every.total_seconds() for pause in pauses)
