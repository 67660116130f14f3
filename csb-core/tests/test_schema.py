"""Services wait for the schema that their code works with."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import sql

from csb_core import schema_version
from csb_core.ctl import main, schema
from csb_core.testing import Database, migrate_module


def _wait(url: str, seconds: float = 0) -> Result:
    arguments = ["--actor", "test", "schema", "wait", "--timeout", str(seconds), "--json"]
    return CliRunner().invoke(main, arguments, env={"CSB_DATABASE_URL": url})


def test_the_code_needs_the_newest_migration() -> None:
    newest = migrate_module().load()[-1]
    assert newest.version == schema_version.NEEDED, (
        f"{newest.name}: raise csb_core.schema_version.NEEDED"
    )


@pytest.mark.parametrize("role", ["api", "aws", "sandbox", "admin"])
def test_every_service_sees_how_far_the_schema_is(database: Database, role: str) -> None:
    result = _wait(getattr(database, role))
    assert result.exit_code == 0, result.output
    assert f'"applied": {schema_version.NEEDED}' in result.stdout


def test_a_newer_schema_will_do(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "NEEDED", schema_version.NEEDED - 1)
    assert _wait(database.api).exit_code == 0


def test_an_older_schema_is_refused(database: Database) -> None:
    with psycopg.connect(database.superuser) as conn:
        conn.execute(
            "DELETE FROM csb_app.csb_schema_migrations WHERE version = %s",
            (schema_version.NEEDED,),
        )
    result = _wait(database.api)
    assert result.exit_code == 1
    assert f"{schema_version.NEEDED} is needed" in result.stderr


def test_it_waits_until_the_schema_is_there(database: Database) -> None:
    """From a database without a schema, through all migrations, while somebody waits."""
    with psycopg.connect(database.superuser, autocommit=True) as conn:
        conn.execute("DROP SCHEMA csb_app CASCADE")
        name = conn.info.dbname
        found: list[Result] = []
        waiting = threading.Thread(target=lambda: found.append(_wait(database.aws, 60)))
        waiting.start()
        time.sleep(1.5)
        assert waiting.is_alive()
        conn.execute("CREATE SCHEMA csb_app AUTHORIZATION csb_owner")
        conn.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO csb_owner").format(sql.Identifier(name))
        )
    migrate_module().up(database.migrator)
    waiting.join(30)
    assert [result.exit_code for result in found] == [0], found


def test_a_database_that_is_away_is_told() -> None:
    result = _wait("postgresql://nobody@127.0.0.1:1/nothing")
    assert result.exit_code == 1
    assert "did not answer" in result.stderr
