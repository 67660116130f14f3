"""A backup counts when it was restored and found whole; what is amiss with it is found and told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg
import pytest
from tests.deploy.backups import IN_BUCKET, Site, on_shelf, rewritten, with_one_more_row
from tests.deploy.charts import NotRendered, rendered
from tests.deploy.installed import Installed
from tests.deploy.tenants import Tenants, accept, as_superuser

from csb_core.testing import make_tenant

VERIFIED: Final = re.compile(r"restore: \d{8}T\d{6}Z is verified: schema \d{4}, (\d+) rows")


def test_a_backup_is_taken_kept_brought_back_restored_and_found_whole(here: Site) -> None:
    done = here.run("backup")
    assert done.returncode == 0, done.stderr
    found = VERIFIED.search(done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 2 * (7 + 4), "requests, their audit, and more"
    assert {path.name for path in on_shelf(here).iterdir()} == {
        *("database.dump", "roles.psql", "manifest", "SHA256SUMS", "VERIFIED")
    }
    assert not (here.folder / "work/server").exists()
    assert "PASSWORD" not in (on_shelf(here) / "roles.psql").read_text()


def test_what_is_written_meanwhile_disturbs_no_backup(
    stores: Installed, here: Site, tenants: Tenants
) -> None:
    """Dump and manifest are of one snapshot, whose session may wait for as long as it takes."""
    writer = make_tenant(stores.url("csb-csbctl", "CSB_ADMIN_DATABASE_URL"))
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            accept(stores, writer, 4)
            written += 4

    thread = threading.Thread(target=write)
    thread.start()
    try:
        done = here.run("backup", PGOPTIONS="-c idle_in_transaction_session_timeout=20")
    finally:
        stop.set()
        thread.join()
    assert done.returncode == 0, done.stderr
    assert written > 40
    assert tenants


def _cut(backup: Path) -> None:
    dump = backup / "database.dump"
    dump.write_bytes(dump.read_bytes()[:-1000])


def _cut_and_summed(backup: Path) -> None:
    _cut(backup)
    rewritten(backup)


def _without_a_role(backup: Path) -> None:
    roles = backup / "roles.psql"
    lines = [line for line in roles.read_text().splitlines() if "csb_admin_user" not in line]
    roles.write_text("\n".join(lines) + "\n")
    rewritten(backup)


def _with_another_digest(backup: Path) -> None:
    manifest = backup / "manifest"
    text, changed = re.subn(
        r"^(rows\|csb_util_versions\|\d+) -?\d", r"\1 77", manifest.read_text(), flags=re.MULTILINE
    )
    assert changed == 1
    manifest.write_text(text)
    rewritten(backup)


def _without_sums(backup: Path) -> None:
    (backup / "SHA256SUMS").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_cut, "other digests"),
        (_cut_and_summed, "pg_restore failed"),
        (_without_a_role, 'role "csb_admin_user" does not exist'),
        (with_one_more_row, "< rows|csb_requests|"),
        (_with_another_digest, "< rows|csb_util_versions|"),
        (_without_sums, "no SHA256SUMS"),
    ],
)
def test_a_spoilt_backup_is_not_believed(
    here: Site, spoil: Callable[[Path], None], said: str
) -> None:
    work = here.folder / "work"
    work.mkdir()
    assert here.step(here.container("backup", "dump")).returncode == 0
    (backup,) = work.iterdir()
    spoil(backup)
    done = here.step(here.container("backup", "verify"))
    assert done.returncode == 1, done.stdout
    assert said in done.stderr
    assert not (work / "server").exists()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            "ALTER TABLE csb_app.csb_requests_ref NO FORCE ROW LEVEL SECURITY",
            "row-level security is not forced on csb_requests_ref",
        ),
        (
            "CREATE POLICY wide ON csb_app.csb_requests FOR SELECT TO csb_api_user USING (true)",
            "without a tenant the API sees",
        ),
        (
            "CREATE POLICY half ON csb_app.csb_requests AS RESTRICTIVE USING (status = 'PENDING')",
            "the API sees",
        ),
        (
            """
            SET session_replication_role = replica;
            DELETE FROM csb_app.csb_requests_audit WHERE version = 2
            """,
            "the audit has gaps",
        ),
        (
            "ALTER TABLE csb_app.csb_requests_audit ALTER COLUMN audit_id RESTART WITH 3",
            "csb_requests_audit.audit_id would give 3 again",
        ),
        ("TRUNCATE csb_app.csb_schema_migrations", "no migration was ever applied"),
    ],
)
def test_a_true_copy_of_a_broken_database_is_not_believed(
    stores: Installed, here: Site, broken: str, said: str
) -> None:
    as_superuser(stores, "CREATE DATABASE broken TEMPLATE csb", database="postgres")
    try:
        as_superuser(stores, broken, database="broken")
        done = here.run("backup", PGDATABASE="broken")
    finally:
        as_superuser(stores, "DROP DATABASE broken", database="postgres")
    assert done.returncode != 0
    assert said in done.stderr
    assert not (on_shelf(here) / "VERIFIED").exists()
    assert here.run("restore").returncode == 1, "nobody restores what was never verified"


def test_a_database_that_cannot_be_read_leaves_no_backup(here: Site) -> None:
    done = here.run("backup", PGDATABASE="nowhere")
    assert done.returncode != 0
    assert 'database "nowhere" does not exist' in done.stderr
    assert here.backups == []


def test_who_does_not_see_every_row_can_take_no_backup(stores: Installed, here: Site) -> None:
    as_superuser(stores, "ALTER ROLE csb_backup_user NOBYPASSRLS")
    try:
        done = here.run("backup")
    finally:
        as_superuser(stores, "ALTER ROLE csb_backup_user BYPASSRLS")
    assert done.returncode != 0
    assert "would be affected by row-level security" in done.stderr
    assert "pg_dump failed" in done.stderr
    assert here.backups == []


def test_who_takes_backups_reads_everything_and_writes_nothing(stores: Installed) -> None:
    reader = stores.secrets["csb-backup"]
    url = psycopg.conninfo.make_conninfo(
        stores.superuser, user=reader["username"], password=reader["password"]
    )
    with psycopg.connect(url, autocommit=True) as conn:
        assert conn.execute("SELECT count(*) FROM csb_app.csb_api_keys").fetchone() is not None
        for statement in (
            "UPDATE csb_app.csb_tenants SET name = 'x'",
            "DELETE FROM csb_app.csb_requests",
            "CREATE TABLE csb_app.x (y int)",
            "CREATE TEMPORARY TABLE x (y int)",
            "SELECT csb_app.ensure_audit_partitions(1)",
            "SET ROLE csb_owner",
            "COPY csb_app.csb_tenants TO PROGRAM 'true'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement.encode())


def test_a_bucket_must_be_somewhere() -> None:
    with pytest.raises(NotRendered, match=r"backup\.bucket\.egressTo"):
        rendered(preset="small", values=IN_BUCKET[:-1])
