"""Celery: Redis as its broker, PostgreSQL for results, two processes, its defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench import cpu, fleet, load
from bench.failure import BenchFailed
from bench.fleet import PROCESSES, Program
from bench.load import Answered, Load
from bench.scene import Reading
from bench.waiting import until
from bench.yardsticks.side import Side, body, told
from csb_core.db import Connection

_SECONDS: Final = """
    SELECT extract(epoch FROM max(date_done) - min(date_done))::float8
      FROM celery_taskmeta
"""


def enqueue(side: Side) -> Reading:
    """POSTs accepted a second by Flask that enqueues, under the gunicorn that the API has."""
    _fill(side, 0)
    with side.serve("celery_jobs:app", "/health") as served:
        answered = _posts(side, served)
        with side.redis() as client:
            published = client.llen("celery")
    if published < answered.count:
        raise BenchFailed(f"{answered.count} accepted, but {published} messages in Celery's list")
    return Reading(
        figures={"celery_post_per_s": answered.per_second},
        cpu={"celery_post": cpu.per_unit(answered.before, answered.after, answered.count)},
    )


def drain(side: Side) -> Reading:
    """Jobs that wait, executed, with their results in PostgreSQL."""
    count = side.sizes.celery_drain
    _fill(side, count)
    with _worker(side) as worker, side.database() as conn:
        meter = side.meter(worker=worker)
        before = meter.read()
        done = _done(conn)
        until(lambda: _done(conn) == count, pause=0.2)
        after = meter.read()
        row = conn.execute(_SECONDS).fetchone()
        assert row is not None
    return Reading(
        figures={"celery_drain_per_s": (count - 1) / row[0]},
        cpu={"celery_drain": cpu.per_unit(before, after, count - done)},
    )


def line(side: Side) -> Reading:
    """The whole line saturated: POSTs as fast as they are accepted, and workers at once."""
    _fill(side, 0)
    with _worker(side) as worker, side.serve("celery_jobs:app", "/health") as served:
        answered = _posts(side, served, worker=worker)
        with side.database() as conn:
            row = conn.execute(
                """
                SELECT count(*)
                  FROM celery_taskmeta
                 WHERE date_done >= to_timestamp(%s) AT TIME ZONE 'UTC'
                   AND date_done < to_timestamp(%s) AT TIME ZONE 'UTC'
                   AND status = 'SUCCESS'
                """,
                (answered.began, answered.ended),
            ).fetchone()
    assert row is not None
    if not row[0]:
        raise BenchFailed("Celery finished nothing within the window")
    seconds = answered.ended - answered.began
    return Reading(
        figures={
            "celery_line_finished_per_s": row[0] / seconds,
            "celery_line_post_per_s": answered.per_second,
        },
        cpu={"celery_line": cpu.per_unit(answered.before, answered.after, row[0])},
    )


def _posts(side: Side, served: Program, **others: Program) -> Answered:
    text = json.dumps(body(), separators=(",", ":")).encode()
    head = (
        "POST /api/v1/requests HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return load.run(
        Load(
            port=served.port,
            request=head.encode() + text,
            expect="202",
            must='"correlation_id"',
            connections=side.sizes.connections,
            warm=side.sizes.warm + 1,  # its first call imports much
            window=side.sizes.window,
        ),
        side.meter(app=served, **others),
    )


@contextmanager
def _worker(side: Side) -> Iterator[Program]:
    argv = [
        *(str(side.python), "-m", "celery", "--app", "bench.jobs.celery_jobs:jobs", "worker"),
        *("--concurrency", str(PROCESSES), "--loglevel", "WARNING"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    up = fleet.said("celery is ready")
    with fleet.program(side.servers, "celery", argv, env=side.env(), up=up) as worker:
        yield worker


def _done(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'").fetchone()
    assert row is not None
    return int(row[0])


def _fill(side: Side, count: int) -> None:
    """Have so many jobs waiting, and no result."""
    told(side.spawn("celery_jobs", str(count), job=json.dumps(body()).encode()))
    with side.database() as conn:
        conn.execute("TRUNCATE celery_taskmeta")
