"""SQL that the pages show runs on the real schema: at three in the morning nobody mends it."""

from __future__ import annotations

import re

import psycopg
import pytest
from tests.house import ROOT, named, text

from csb_core.testing import Database, database, postgres, template

__all__ = ["database", "postgres", "template"]

SHOWN = [
    pytest.param(statement, id=f"{named(page)}-{statement.split()[0]}")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for statement in re.findall(r"^ *```sql\n(.*?)^ *```", text(page), re.DOTALL | re.MULTILINE)
]


def test_there_is_some() -> None:
    assert len(SHOWN) > 5


@pytest.mark.parametrize("statement", SHOWN)
def test_it_runs(database: Database, statement: str) -> None:
    with psycopg.connect(database.superuser) as conn:
        conn.execute(statement.encode())
        conn.rollback()


@pytest.mark.parametrize("expected", [0, 1])
def test_a_policy_that_is_missing_is_seen(database: Database, expected: int) -> None:
    (statement,) = (str(s.values[0]) for s in SHOWN if "relforcerowsecurity" in str(s.values[0]))
    with psycopg.connect(database.superuser) as conn:
        if expected:
            conn.execute("ALTER TABLE csb_app.csb_requests NO FORCE ROW LEVEL SECURITY")
        assert len(conn.execute(statement.encode()).fetchall()) == expected
        conn.rollback()
