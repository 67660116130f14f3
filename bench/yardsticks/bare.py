"""The least that it could cost: Flask that only answers, PostgreSQL that only writes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

from bench import cpu, load
from bench.failure import BenchFailed
from bench.load import Load
from bench.scene import Reading
from bench.yardsticks.side import Side, body
from csb_core.local.postgres import binary

#: As long as the document that a GET of ours answers with.
_BYTES: Final = 930
_CLIENTS: Final = 16

_TABLES: Final = """
    DROP TABLE IF EXISTS bare, bare_audit, one;
    DROP SEQUENCE IF EXISTS bare_next;
    CREATE TABLE bare (id bigserial PRIMARY KEY, tenant uuid NOT NULL, status text NOT NULL,
                       token bigint NOT NULL DEFAULT 0, payload json NOT NULL,
                       created_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz);
    CREATE TABLE bare_audit (id bigserial PRIMARY KEY, bare_id bigint NOT NULL,
                             at timestamptz NOT NULL DEFAULT now(), event text NOT NULL);
    CREATE INDEX ON bare_audit (bare_id);
    CREATE SEQUENCE bare_next CACHE 50;
"""

_INSERT: Final = """
    WITH made AS (INSERT INTO bare (tenant, status, payload)
                  VALUES ('0b0e7c3e-0000-4000-8000-000000000000', 'PENDING', '{payload}')
                  RETURNING id)
    INSERT INTO bare_audit (bare_id, event) SELECT id, 'created' FROM made;
"""

_CLAIM_AND_FINISH: Final = """
    WITH taken AS (UPDATE bare SET status = 'IN_PROGRESS', token = token + 1
                    WHERE id = (SELECT nextval('bare_next')) AND status = 'PENDING'
                RETURNING id, token),
         noted AS (INSERT INTO bare_audit (bare_id, event) SELECT id, 'claimed' FROM taken)
    SELECT id, token FROM taken \\gset
    WITH ended AS (UPDATE bare SET status = 'SUCCESS', finished_at = now()
                    WHERE id = :id AND token = :token AND status = 'IN_PROGRESS'
                RETURNING id)
    INSERT INTO bare_audit (bare_id, event) SELECT id, 'ended' FROM ended;
"""


def flask(side: Side, *, with_log: bool) -> Reading:
    """A bare route, with the API's access lines (that is its whole configuration) or without."""
    request = b"GET /bare HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Token: none\r\n\r\n"
    more = {"BENCH_BYTES": str(_BYTES)}
    if with_log:
        more["BENCH_LOG"] = "csb_core.gunicorn_log.GunicornLog"
    with side.serve("bare_app:app", "/bare", ours=True, more=more) as served:
        answered = load.run(
            Load(
                port=served.port,
                request=request,
                expect="200",
                connections=side.sizes.connections,
                warm=side.sizes.warm / 2,
                window=side.sizes.window,
            ),
            side.meter(app=served),
        )
    name = "bare_flask" if with_log else "bare_flask_silent"
    spent = cpu.per_unit(answered.before, answered.after, answered.count)
    return Reading(figures={f"{name}_per_s": answered.per_second}, cpu={name: spent})


def pgbench(side: Side) -> Reading:
    """Bare transactions: a row with its audit row, and a claim with its end."""
    folder = side.servers.run / "pgbench"
    folder.mkdir(exist_ok=True)
    payload = re.sub(r":(?=[\w:])", "_", json.dumps(body()))  # pgbench takes :name for a variable
    insert, finish = folder / "insert.sql", folder / "finish.sql"
    insert.write_text(_on_one_line(_INSERT.replace("{payload}", payload)))
    finish.write_text(_CLAIM_AND_FINISH)
    with side.database() as conn:
        conn.execute(_TABLES.encode())
        inserted = _transactions(side, insert)
        conn.execute("ALTER SEQUENCE bare_id_seq RESTART")
        conn.execute("CREATE TABLE one AS SELECT * FROM bare LIMIT 1")
        conn.execute("TRUNCATE bare, bare_audit")
        conn.execute(
            """
            INSERT INTO bare (tenant, status, payload)
            SELECT tenant, status, payload
              FROM one, generate_series(1, %s)
            """,
            (side.sizes.pgbench * 15_000,),
        )
        conn.execute("VACUUM ANALYZE bare, bare_audit")
        finished = _transactions(side, finish)
        conn.execute("DROP TABLE bare, bare_audit, one")
    return Reading(
        figures={"pgbench_insert_per_s": inserted, "pgbench_claim_finish_per_s": finished}
    )


def _transactions(side: Side, script: Path) -> float:
    done = subprocess.run(
        [
            str(binary("pgbench")),
            *("--no-vacuum", "--protocol=prepared", f"--client={_CLIENTS}", "--jobs=1"),
            *(f"--time={side.sizes.pgbench}", f"--file={script}"),
            f"--dbname={side.servers.yardsticks}",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: ([0-9]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None or failed is None or failed[1] != "0":
        raise BenchFailed(f"pgbench failed: {done.stdout}{done.stderr}"[-1500:])
    return float(found[1])


def _on_one_line(text: str) -> str:
    return " ".join(text.split()) + "\n"
