"""What the platform takes: memory by process, room in both stores by request, connections.

    python -m bench.footprint    half a minute; writes bench/footprint.json for docs/sizing.md

Rows are written, claimed and recorded by the platform itself, under its own roles, with the result
and the references of an AWS action; so what updates leave behind in a table is counted as well.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
import redis

from bench import fleet, machine
from bench.load import ROOT
from bench.servers import YOUNG, Servers, running
from bench.store import Store
from bench.waiting import until
from csb_core.queue import Queue

OUT: Final = Path(__file__).with_name("footprint.json")
#: Requests that are written, and that wait in Redis before they are taken.
REQUESTS: Final = 40_000
_TABLES: Final = ("csb_requests", "csb_requests_audit", "csb_requests_ref")


def main() -> int:
    """Measure and write."""
    run = Path(os.environ.get("CSB_RUN_DIR", ROOT / ".run")).resolve() / "footprint"
    with running(run) as servers:
        found = _measured(servers)
    told = {"made_at": datetime.now(UTC).isoformat(timespec="seconds"), **found}
    OUT.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {OUT.relative_to(ROOT)}\n")
    return 0


def _measured(servers: Servers) -> dict[str, Any]:
    platform = servers.platform(YOUNG)
    connected = psycopg.connect(platform.urls.superuser, autocommit=True)
    client = redis.Redis.from_url(servers.redis.url)
    with connected as conn, client, ExitStack() as programs:
        store = Store(platform=platform, conn=conn)
        begun = {
            "api": programs.enter_context(fleet.api(servers, platform)),
            "worker-sandbox": programs.enter_context(fleet.sandbox(servers, platform)),
        }
        empty = client.info("memory")["used_memory"]
        store.fill_waiting(servers.redis.url, REQUESTS)
        message = (client.info("memory")["used_memory"] - empty) / REQUESTS

        begun["worker-aws"] = programs.enter_context(
            fleet.worker(servers, platform, app="bench.full_worker:app")
        )
        _await_ends(store, Queue(client, "aws"), REQUESTS)
        # The first half made the room that updates leave behind; the second finds it there.
        before, log_before = _sizes(conn), _log_position(conn)
        store.fill_waiting(servers.redis.url, REQUESTS, name="again")
        _await_ends(store, Queue(client, "aws"), 2 * REQUESTS)
        after, log_after = _sizes(conn), _log_position(conn)
        return {
            "machine": machine.facts(servers.run),
            "requests": REQUESTS,
            "memory": {name: _memory(begun[name].pid) for name in sorted(begun)},
            "connections": _connections(conn),
            "disk_bytes": {
                table: round((after[table] - before[table]) / REQUESTS) for table in _TABLES
            },
            "write_ahead_log_bytes": round((log_after - log_before) / REQUESTS),
            "redis_message_bytes": round(message),
        }


def _await_ends(store: Store, queue: Queue, count: int) -> None:
    """Return when so many have ended, and their dead rows are gone."""
    until(lambda: store.open_requests() == 0 and queue.depth() == 0)
    store.drained(UUID(int=0), count)
    store.conn.execute("VACUUM (ANALYZE) csb_app.csb_requests, csb_app.csb_requests_ref")


def _sizes(conn: psycopg.Connection[Any]) -> Mapping[str, int]:
    """The bytes of each table, with its indexes, its partitions, and what lies out of line."""
    rows = conn.execute(
        """
        SELECT root.relname, sum(pg_total_relation_size(part.relid))::bigint
          FROM pg_class root,
               LATERAL (SELECT root.oid UNION SELECT relid FROM pg_partition_tree(root.oid))
                    AS part (relid)
         WHERE root.relnamespace = 'csb_app'::regnamespace AND root.relname = ANY (%s)
         GROUP BY root.relname
        """,
        (list(_TABLES),),
    )
    return dict(rows.fetchall())


def _log_position(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    return int(row[0])


def _connections(conn: psycopg.Connection[Any]) -> Mapping[str, int]:
    """How many connections each role holds at rest."""
    rows = conn.execute(
        """
        SELECT usename, count(*)
          FROM pg_stat_activity
         WHERE usename LIKE 'csb\\_%\\_user'
         GROUP BY usename
         ORDER BY usename
        """
    )
    return dict(rows.fetchall())


def _memory(pid: int) -> Mapping[str, float]:
    """The memory of a program with all its descendants, shared pages divided among their users."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    kilobytes = 0
    for member in family:
        with suppress(OSError):
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            kilobytes += int(rollup.split("Pss:")[1].split()[0])
    return {"mib": round(kilobytes / 1024, 1), "processes": len(family)}


if __name__ == "__main__":
    sys.exit(main())
