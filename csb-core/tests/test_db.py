"""The door to the database: what is an outage, and what is the statement's own fault."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from tiny import Tiny

from csb_core.db import Pool, connection, open_pool, ping
from csb_core.errors import StoreRejected, StoreUnavailable
from csb_core.local import ports

SECOND = timedelta(seconds=1)


@pytest.fixture
def pool(tiny: Tiny) -> Iterator[Pool]:
    with open_pool(tiny.url, name="test", least=1, most=2, timeout=SECOND) as pool:
        yield pool


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1/0",
        "SELECT nothing FROM nowhere",
        "INSERT INTO csb_app.csb_requests_audit DEFAULT VALUES",
        "UPDATE csb_app.csb_requests SET tenant_id = gen_random_uuid()",
        "SELECT repeat('[', 100000)::jsonb",  # 54001: operational to psycopg, and yet our own fault
        "SELECT " + ",".join(["1"] * 1700),  # 54011
    ],
    ids=lambda statement: statement[:30],
)
def test_what_fails_each_time_is_refused_not_unavailable(pool: Pool, statement: str) -> None:
    with pytest.raises(StoreRejected) as raised, connection(pool) as conn:
        conn.execute(statement.encode())
    assert statement not in str(raised.value)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SET statement_timeout = 10; SELECT pg_sleep(5)",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'deadlock_detected'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'lock_not_available'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'disk_full'; END $$",
        "SET transaction_read_only = on; DELETE FROM csb_app.csb_requests_ref",
    ],
    ids=lambda statement: statement[:70],
)
def test_what_may_pass_is_unavailable(pool: Pool, statement: str) -> None:
    with pytest.raises(StoreUnavailable), connection(pool) as conn:
        conn.execute(statement.encode())


def test_a_pool_opens_also_when_nobody_is_there_and_says_so_in_time() -> None:
    nobody = f"postgresql://nobody@127.0.0.1:{ports.free_port()}/none"
    with open_pool(nobody, name="test", least=1, most=2, timeout=SECOND / 4) as pool:
        with pytest.raises(StoreUnavailable), connection(pool):
            pass
        with pytest.raises(StoreUnavailable):
            ping(pool, SECOND / 4)


def test_a_closed_pool_is_unavailable(tiny: Tiny) -> None:
    pool = open_pool(tiny.url, name="test", least=1, most=2, timeout=SECOND)
    pool.close()
    with pytest.raises(StoreUnavailable), connection(pool):
        pass


def test_a_killed_connection_is_replaced_and_takes_its_dead_siblings_along(tiny: Tiny) -> None:
    with open_pool(tiny.url, name="siblings", least=4, most=4, timeout=SECOND) as pool:
        pool.wait()
        tiny.superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'siblings'"
        )
        refused = 0
        for _ in range(12):
            try:
                with connection(pool) as conn:
                    conn.execute("SELECT 1")
            except StoreUnavailable:
                refused += 1
        assert refused == 1


def test_workers_that_read_no_more_do_not_keep_their_locks(tiny: Tiny) -> None:
    """Their roles say so; what it saves us from is shown beside the rescuer."""
    with psycopg.connect(tiny.url) as conn:
        assert conn.execute("SHOW tcp_user_timeout").fetchone() == ("5000",)
