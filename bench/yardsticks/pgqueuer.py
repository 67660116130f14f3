"""PgQueuer on asyncpg, two processes, in batches: the fastest to drain that we know of."""

from __future__ import annotations

import json

from bench.failure import BenchFailed
from bench.fleet import PROCESSES
from bench.scene import Reading
from bench.yardsticks.side import Side, job, told

_ENQUEUED = "SELECT count(*) FROM pgqueuer"
_ENDED = """
    SELECT count(*) FILTER (WHERE status = 'successful'),
           extract(epoch FROM max(created) FILTER (WHERE status = 'successful'))::float8
      FROM pgqueuer_log
"""


def pgqueuer(side: Side) -> Reading:
    """Jobs enqueued a second by two processes without HTTP, and jobs drained a second by two."""
    _install(side)
    each = side.sizes.pgqueuer_enqueue // PROCESSES // 16 * 16
    callers = [
        side.spawn("pgqueuer_jobs", "enqueue", str(each), job=job()) for _ in range(PROCESSES)
    ]
    spans = [json.loads(told(caller)) for caller in callers]
    enqueued = each * PROCESSES / (max(s[1] for s in spans) - min(s[0] for s in spans))

    count = side.sizes.pgqueuer_drain
    with side.database() as conn:
        if conn.execute(_ENQUEUED).fetchone() != (each * PROCESSES,):
            raise BenchFailed("PgQueuer has not kept what it enqueued")
        conn.execute("TRUNCATE pgqueuer, pgqueuer_log")
        told(side.spawn("pgqueuer_jobs", "fill", str(count), job=job()))
        conn.execute("VACUUM ANALYZE pgqueuer, pgqueuer_log")
        workers = [side.spawn("pgqueuer_jobs", "drain") for _ in range(PROCESSES)]
        began = min(json.loads(told(worker))[0] for worker in workers)
        row = conn.execute(_ENDED).fetchone()
        conn.execute("TRUNCATE pgqueuer, pgqueuer_log")
    assert row is not None
    if row[0] != count:
        raise BenchFailed(f"PgQueuer ended {row[0]} of {count} jobs well")
    return Reading(
        figures={
            "pgqueuer_enqueue_per_s": enqueued,
            "pgqueuer_drain_per_s": count / (row[1] - began),
        }
    )


def _install(side: Side) -> None:
    with side.database() as conn:
        found = conn.execute("SELECT to_regclass('pgqueuer') IS NOT NULL").fetchone()
    if found == (False,):
        told(side.spawn("pgqueuer_jobs", "install"))
