"""kill -9 while somebody else works for the process: a statement, or a call of AWS, lives on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests.chaos import proof
from tests.chaos.client import Asked, Client
from tests.chaos.patience import until
from tests.chaos.platform import Platform
from tests.chaos.service import kill

pytestmark = pytest.mark.chaos

SOON = timedelta(seconds=10)
ENDED = timedelta(seconds=40)


@contextmanager
def stuck(platform: Platform, client: Client, calls: int = 0) -> Iterator[psycopg.Connection[Any]]:
    """During the block nothing is audited, so no row is made and none moves; callers wait.

    The lock comes before the calls: it may have to wait for a vacuum of a table that has grown.
    """
    with (
        ThreadPoolExecutor(max(calls, 1)) as callers,
        platform.truth() as conn,
        conn.transaction(),
    ):
        conn.execute("LOCK TABLE csb_app.csb_requests_audit IN ACCESS EXCLUSIVE MODE")
        for _ in range(calls):
            callers.submit(client.attach)
        yield conn


def await_blocked(platform: Platform, statement: str) -> list[int]:
    """The backends that wait for a lock in this statement, as soon as there are any."""

    def look() -> list[int]:
        with platform.truth() as conn:
            rows = conn.execute(
                """
                SELECT pid
                  FROM pg_stat_activity
                 WHERE wait_event_type = 'Lock'
                   AND query LIKE %s
                """,
                (f"%{statement}%",),
            ).fetchall()
        return [row[0] for row in rows]

    return until(look, SOON, f"{statement!r} waits")


def start_slow(platform: Platform, client: Client, *, seconds: float) -> Asked:
    """Ask for a change whose writing call takes AWS a while; return once it is under way."""
    body = client.new_body()
    platform.aws(
        "POST",
        "faults",
        {
            "operation": "AttachUserPolicy",
            "kind": "latency",
            "seconds": seconds,
            "principal": body["principal"]["name"],
        },
    )
    asked = client.ask(body)
    until(lambda: not platform.aws("GET", "faults")["faults"], SOON, "AWS has begun to dawdle")
    return asked


def owner(platform: Platform, asked: Asked) -> int:
    """The process that holds the request."""
    with platform.truth() as conn:
        row = conn.execute(
            "SELECT lease_owner FROM csb_app.csb_requests WHERE client_request_id = %s",
            (asked.key,),
        ).fetchone()
    assert row is not None
    return int(row[0].split(":")[2])


def test_api_killed_inside_the_insert(platform: Platform) -> None:
    """The rows are written, the commit is not made: each request ends up whole or not at all."""
    client = platform.client()
    with stuck(platform, client, calls=6):
        await_blocked(platform, "csb_app.submit")
        for pid in platform.api.processes():
            kill(pid)
    platform.await_ready()

    account = proof.close(platform, client.asked, limit=ENDED)
    assert account.stored_unanswered >= 1, "nobody was killed between insert and answer"
    proof.require_effects(platform, client.asked)


def test_insert_rolled_back_under_the_api(platform: Platform) -> None:
    """The backend dies before the commit: the API finds nothing, writes again, and says 202."""
    client = platform.client()
    with stuck(platform, client, calls=6) as conn:
        for pid in await_blocked(platform, "csb_app.submit"):
            conn.execute("SELECT pg_terminate_backend(%s)", (pid,))

    account = proof.close(platform, client.asked, limit=ENDED)
    assert account.accepted == 6
    proof.require_effects(platform, client.asked)


def test_worker_killed_inside_the_record(platform: Platform) -> None:
    """Nobody is left to see the acknowledgement: the end stands, and is the only one."""
    client = platform.client()
    asked = start_slow(platform, client, seconds=3)
    with stuck(platform, client):
        await_blocked(platform, "WITH ended AS")
        kill(owner(platform, asked))

    account = proof.close(platform, [asked], limit=ENDED)
    assert account.attempts == {1: 1}
    assert account.rescued == 0
    proof.require_effects(platform, [asked])


def test_worker_killed_while_aws_works(platform: Platform) -> None:
    """The call outlives its caller: the next attempt finds its effect, and tells it as its own."""
    client = platform.client()
    asked = start_slow(platform, client, seconds=1.5)
    time.sleep(0.2)
    kill(owner(platform, asked))

    account = proof.close(platform, [asked], limit=ENDED)
    assert account.rescued == 1
    proof.require_effects(platform, [asked])
