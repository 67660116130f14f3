"""Reading how PostgreSQL goes about a real statement of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from csb_core.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a store function sent to the server."""

    query: Any
    parameters: Any


def sent_by(conn: Connection, call: Callable[[Connection], object]) -> list[Statement]:
    """Run a store function and undo what it did; return the statements that it sent."""
    sent: list[Statement] = []

    class Recording(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Recording:
            sent.append(Statement(query=query, parameters=params))
            super().execute(query, params, **options)
            return self

    usual = conn.cursor_factory
    with conn.transaction(force_rollback=True):
        conn.cursor_factory = Recording
        try:
            call(conn)
        finally:
            conn.cursor_factory = usual
    return sent


def plan_of(conn: Connection, statement: Statement, *, analyse: bool = False) -> dict[str, Any]:
    """The plan of a statement as its role gets it, once prepared; run and undone if `analyse`."""
    query = PostgresQuery(Transformer(conn))
    query.convert(statement.query, statement.parameters)
    values = statement.parameters or ()
    if isinstance(values, dict):
        values = [values[name] for name in query._order or ()]
    types = [_type_name(conn, oid) for oid in query.types]
    options = "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON" if analyse else "FORMAT JSON"

    with conn.transaction(force_rollback=True):
        given = f" ({', '.join(types)})" if types else ""
        conn.execute(f"PREPARE guarded{given} AS {query.query.decode()}".encode())
        try:
            explain = sql.SQL("EXPLAIN ({}) EXECUTE guarded").format(sql.SQL(options))
            if values:
                literals = sql.SQL(", ").join(map(sql.Literal, values))
                explain += sql.SQL(" ({})").format(literals)
            row = conn.execute(explain).fetchone()
        finally:
            conn.execute("DEALLOCATE guarded")
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def _type_name(conn: Connection, oid: int) -> str:
    if oid == 0:
        return "unknown"
    return str(conn.execute("SELECT format_type(%s, NULL)", (oid,)).fetchall()[0][0])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's node and all that are below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def reads(plan: dict[str, Any], table: str) -> set[str]:
    """How a plan finds the rows of a table: by which index, or by the kind of scan without one."""
    found: set[str] = set()
    for node in nodes(plan):
        if node.get("Relation Name") == table and node["Node Type"] != "ModifyTable":
            found.add(node.get("Index Name", node["Node Type"]))
            bitmaps = (one for one in nodes(node) if one["Node Type"] == "Bitmap Index Scan")
            found |= {one["Index Name"] for one in bitmaps}
    return found


def names_rows(plan: dict[str, Any], table: str) -> bool:
    """Whether a plan looks up each row of a table by its id, in an index, and reads no other."""
    found = [node for node in nodes(plan) if node.get("Relation Name") == table]
    lookups = [node for node in found if node["Node Type"] in {"Index Scan", "Index Only Scan"}]
    written = [node for node in found if node["Node Type"] == "ModifyTable"]
    return (
        bool(lookups)
        and len(lookups) + len(written) == len(found)
        and all("correlation_id = " in node.get("Index Cond", "") for node in lookups)
    )


def buffers(plan: dict[str, Any]) -> int:
    """How many pages an analysed plan touched."""
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def rows_read(conn: Connection, table: str) -> int:
    """How many rows this transaction has met in a table and its indexes, also in functions."""
    query = """
        SELECT pg_stat_get_xact_tuples_returned(t.oid)
               + (SELECT sum(pg_stat_get_xact_tuples_returned(i.indexrelid))
                    FROM pg_index i WHERE i.indrelid = t.oid)
          FROM (SELECT to_regclass(%s)::oid) t (oid)
    """
    return int(conn.execute(query, (f"csb_app.{table}",)).fetchall()[0][0])
