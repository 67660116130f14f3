"""The migration runner: forward only, checked, one at a time, all or nothing."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from csb_core.local.postgres import PostgresServer
from csb_core.testing import PASSWORD, ROLES, ROOT, Database, database_urls, migrate_module

migrate: Any = migrate_module()

#: How a client reaches a database: straight, or through PgBouncer.
Way = Callable[[str], str]


@pytest.fixture
def bare(postgres: PostgresServer) -> Iterator[Database]:
    """A database with roles and an empty schema."""
    name = f"csb_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        urls = database_urls(postgres.url, name)
        _bootstrap(urls)
        yield urls
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _bootstrap(urls: Database) -> None:
    migrate.bootstrap(urls.superuser, dict.fromkeys(ROLES, PASSWORD), workers=["aws", "sandbox"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two migrations."""
    _write(tmp_path, "0001_one.sql", "CREATE TABLE csb_app.one (a integer);")
    _write(tmp_path, "0002_two.sql", "CREATE TABLE csb_app.two (a integer);")
    return tmp_path


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text + "\n")


def _tables(urls: Database) -> set[str]:
    with psycopg.connect(urls.superuser) as conn:
        rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'csb_app'")
        return {row[0] for row in rows} - {"csb_schema_migrations"}


def test_what_is_missing_is_applied_in_order_and_once(
    bare: Database, folder: Path, way: Way
) -> None:
    url = way(bare.migrator)
    assert migrate.status(url, folder) == ([], ["0001_one.sql", "0002_two.sql"])
    assert migrate.up(url, folder) == ["0001_one.sql", "0002_two.sql"]
    assert migrate.up(url, folder) == []

    _write(folder, "0010_ten.sql", "ALTER TABLE csb_app.two ADD b integer;")
    assert migrate.up(url, folder) == ["0010_ten.sql"]
    assert migrate.status(url, folder) == (["0001_one.sql", "0002_two.sql", "0010_ten.sql"], [])
    assert _tables(bare) == {"one", "two"}


def test_our_own_migrations_apply_and_apply_once(bare: Database, way: Way) -> None:
    names = migrate.up(way(bare.migrator))
    assert names == sorted(path.name for path in migrate.MIGRATIONS.glob("*.sql"))
    assert migrate.up(way(bare.migrator)) == []
    with psycopg.connect(bare.superuser) as conn:
        owners = conn.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'csb_app'"
        ).fetchall()
    assert owners == [("csb_owner",)]


def test_two_runners_at_once_apply_each_file_once(bare: Database, folder: Path, way: Way) -> None:
    _write(folder, "0003_slow.sql", "SELECT pg_sleep(0.3); CREATE TABLE csb_app.three (a integer);")
    answers: list[list[str]] = []
    faults: list[Exception] = []

    def run() -> None:
        try:
            answers.append(migrate.up(way(bare.migrator), folder))
        except Exception as exc:  # noqa: BLE001 - a thread's fault is the test's
            faults.append(exc)

    runners = [threading.Thread(target=run) for _ in range(4)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert faults == []
    applied = sorted(name for answer in answers for name in answer)
    assert applied == ["0001_one.sql", "0002_two.sql", "0003_slow.sql"]


def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stay(
    bare: Database, folder: Path
) -> None:
    _write(folder, "0003_bad.sql", "CREATE TABLE csb_app.three (a integer); SELECT 1 / 0;")
    _write(folder, "0004_good.sql", "CREATE TABLE csb_app.four (a integer);")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate.up(bare.migrator, folder)
    assert _tables(bare) == {"one", "two"}
    assert migrate.status(bare.migrator, folder)[1] == ["0003_bad.sql", "0004_good.sql"]

    _write(folder, "0003_bad.sql", "CREATE TABLE csb_app.three (a integer);")
    assert migrate.up(bare.migrator, folder) == ["0003_bad.sql", "0004_good.sql"]


@pytest.mark.parametrize("ending", ["COMMIT;", "commit work ;", "ROLLBACK;", "  BEGIN;"])
def test_a_migration_that_would_end_its_own_transaction_is_refused(
    bare: Database, folder: Path, ending: str
) -> None:
    text = f"CREATE TABLE csb_app.three (a integer);\n{ending}\nSELECT 1 / 0;"
    _write(folder, "0003_own.sql", text)
    with pytest.raises(migrate.MigrationError, match=r"0003_own\.sql"):
        migrate.up(bare.migrator, folder)
    assert _tables(bare) == set()


def test_a_file_that_was_changed_is_refused(bare: Database, folder: Path) -> None:
    migrate.up(bare.migrator, folder)
    _write(folder, "0001_one.sql", "CREATE TABLE csb_app.one (a bigint);")
    _write(folder, "0003_three.sql", "CREATE TABLE csb_app.three (a integer);")
    with pytest.raises(migrate.MigrationError, match=r"0001_one\.sql was changed"):
        migrate.up(bare.migrator, folder)
    with pytest.raises(migrate.MigrationError, match=r"0001_one\.sql was changed"):
        migrate.status(bare.migrator, folder)
    assert _tables(bare) == {"one", "two"}


def test_another_end_of_line_is_no_change(bare: Database, folder: Path) -> None:
    _write(folder, "0003_lines.sql", "SELECT 1;\nSELECT 2;")
    migrate.up(bare.migrator, folder)
    (folder / "0003_lines.sql").write_bytes(b"SELECT 1;\r\nSELECT 2;\r\n")
    assert migrate.up(bare.migrator, folder) == []


def test_a_file_that_comes_too_late_is_refused(bare: Database, folder: Path) -> None:
    (folder / "0001_one.sql").unlink()
    migrate.up(bare.migrator, folder)
    _write(folder, "0001_one.sql", "CREATE TABLE csb_app.one (a integer);")
    with pytest.raises(migrate.MigrationError, match=r"0001_one\.sql comes before 0002"):
        migrate.up(bare.migrator, folder)
    assert _tables(bare) == {"two"}


def test_a_file_that_is_gone_is_missed(bare: Database, folder: Path) -> None:
    migrate.up(bare.migrator, folder)
    (folder / "0001_one.sql").unlink()
    with pytest.raises(migrate.MigrationError, match=r"0001_one\.sql is applied but its file"):
        migrate.up(bare.migrator, folder)


def test_an_older_release_finds_nothing_to_do_after_a_rollback(
    bare: Database, folder: Path
) -> None:
    migrate.up(bare.migrator, folder)
    (folder / "0002_two.sql").unlink()

    assert migrate.up(bare.migrator, folder) == []
    done, missing = migrate.status(bare.migrator, folder)
    assert done == ["0001_one.sql", "0002_two.sql"]
    assert missing == []


@pytest.mark.parametrize(
    "name", ["1_short.sql", "0003-dash.sql", "0003_Upper.sql", "0003_.sql", "three.sql", "0003.sql"]
)
def test_a_badly_named_file_is_refused(folder: Path, name: str) -> None:
    _write(folder, name, "SELECT 1;")
    with pytest.raises(migrate.MigrationError, match=re.escape(name)):
        migrate.load(folder)


def test_a_number_is_taken_once(folder: Path) -> None:
    _write(folder, "0002_also.sql", "SELECT 1;")
    with pytest.raises(migrate.MigrationError, match="number 2 is taken"):
        migrate.load(folder)


def test_a_backfill_by_the_owner_says_that_it_touched_nothing(bare: Database, folder: Path) -> None:
    """Forced row-level security hides rows from their owner: a migration must assert its counts."""
    migrate.up(bare.migrator)
    with psycopg.connect(bare.admin) as conn:
        conn.execute(
            "INSERT INTO csb_app.csb_tenants VALUES (gen_random_uuid(), 'acme', 'Acme', 'active')"
        )
    for path in migrate.MIGRATIONS.glob("*.sql"):
        (folder / path.name).write_text(path.read_text())
    for name in ("0001_one.sql", "0002_two.sql"):
        (folder / name).unlink()
    _write(
        folder,
        "9999_backfill.sql",
        """
        DO $$
        DECLARE touched integer; BEGIN
            UPDATE csb_app.csb_tenants SET name = upper(name);
            GET DIAGNOSTICS touched = ROW_COUNT;
            ASSERT touched = (SELECT count(*) FROM csb_app.csb_tenants), 'the policies hid rows';
        END $$;
        """,
    )
    with pytest.raises(psycopg.errors.AssertFailure, match="the policies hid rows"):
        migrate.up(bare.migrator, folder)


def test_bootstrap_can_be_repeated_and_mends_what_drifted(bare: Database) -> None:
    migrate.up(bare.migrator)
    with psycopg.connect(bare.superuser, autocommit=True) as conn:
        conn.execute("ALTER ROLE csb_api_user RESET lock_timeout")
        conn.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        _bootstrap(bare)
        with psycopg.connect(bare.api) as api:
            assert api.execute("SHOW lock_timeout").fetchone() == ("5s",)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                api.execute("CREATE TABLE public.mine (a integer)")
        with psycopg.connect(bare.aws) as aws, pytest.raises(psycopg.errors.InsufficientPrivilege):
            aws.execute("CREATE TEMPORARY TABLE mine (a integer)")


def test_bootstrap_says_whose_the_roles_are_that_it_may_not_change(bare: Database) -> None:
    with psycopg.connect(bare.superuser, autocommit=True) as conn:
        conn.execute("CREATE ROLE newcomer LOGIN CREATEROLE PASSWORD 'not-secret'")
        conn.execute("CREATE DATABASE newcomers OWNER newcomer")
        login = {"user": "newcomer", "password": "not-secret", "dbname": "newcomers"}
        try:
            with pytest.raises(migrate.MigrationError, match=r"csb_api_user.*made these") as raised:
                migrate.bootstrap(conninfo.make_conninfo(bare.superuser, **login), {}, workers=[])
            assert re.search(
                rf"using them: .*{conn.info.dbname}.*cluster of its own", str(raised.value)
            )
        finally:
            conn.execute("DROP DATABASE newcomers WITH (FORCE)")
            conn.execute("DROP ROLE newcomer")


def test_bootstrap_refuses_a_database_that_is_not_utf8(bare: Database) -> None:
    with psycopg.connect(bare.superuser, autocommit=True) as conn:
        conn.execute("CREATE DATABASE csb_ascii TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'")
        try:
            with pytest.raises(migrate.MigrationError, match="SQL_ASCII: make it with UTF8"):
                migrate.bootstrap(
                    conninfo.make_conninfo(bare.superuser, dbname="csb_ascii"), {}, workers=[]
                )
        finally:
            conn.execute("DROP DATABASE csb_ascii WITH (FORCE)")


@pytest.mark.parametrize("attribute", ["BYPASSRLS", "SUPERUSER"])
def test_bootstrap_refuses_a_role_that_stands_above_the_policies(
    bare: Database, attribute: str
) -> None:
    with psycopg.connect(bare.superuser, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER ROLE csb_api_user {}").format(sql.SQL(attribute)))
        try:
            with pytest.raises(migrate.MigrationError, match="csb_api_user"):
                _bootstrap(bare)
        finally:
            conn.execute(sql.SQL("ALTER ROLE csb_api_user NO{}").format(sql.SQL(attribute)))


def test_a_service_role_migrates_nothing(bare: Database, folder: Path) -> None:
    for url in (bare.api, bare.aws, bare.admin):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            migrate.up(url, folder)
    assert _tables(bare) == set()


def _run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "db" / "migrate.py"), *argv],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_what_it_did(bare: Database) -> None:
    names = [path.name for path in sorted(migrate.MIGRATIONS.glob("*.sql"))]
    at = {"CSB_MIGRATOR_DATABASE_URL": bare.migrator}
    assert _run("status", **at).stdout.split() == [w for n in names for w in ("missing", n)]
    assert _run("up", **at).stdout.split() == [word for n in names for word in ("applied", n)]
    assert _run("up", **at).stdout == "nothing to apply\n"
    assert _run("status", "--url", bare.migrator).stdout.startswith(f"applied  {names[0]}\n")


def test_the_command_tells_why_it_cannot(bare: Database) -> None:
    assert _run("up").returncode == 2
    refused = _run("up", "--url", bare.api)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("migrate: ")
    assert PASSWORD not in refused.stderr
    bootstrapped = _run("bootstrap", "--url", bare.superuser, CSB_API_USER_PASSWORD=PASSWORD)
    assert bootstrapped.returncode == 0
    assert PASSWORD not in bootstrapped.stdout
