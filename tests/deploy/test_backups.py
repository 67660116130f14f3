"""Backups count when they were restored; a restore puts everything back, and destroys nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from tests.deploy.backups import IN_BUCKET, Site, site
from tests.deploy.charts import NotRendered, rendered
from tests.deploy.installed import Installed, installed

from csb_core import leases, requests
from csb_core.leases import Candidate, End
from csb_core.local import ports
from csb_core.states import Status
from csb_core.testing import as_tenant, make_draft, make_tenant, make_util, migrate_module

VERIFIED: Final = re.compile(r"restore: \d{8}T\d{6}Z is verified: schema \d{4}, (\d+) rows")
Tenants = dict[UUID, int]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with installed(tmp_path_factory.mktemp("installed")) as found:
        assert found.migrate()
        yield found


@pytest.fixture(scope="module")
def tenants(stores: Installed) -> Tenants:
    """Two tenants with requests of their own, some ended; each has a util."""
    found = {}
    for count in (7, 4):
        tenant = make_tenant(stores.url("csb-csbctl", "CSB_ADMIN_DATABASE_URL"))
        make_util(stores.url("csb-api-service"), tenant)
        accept(stores, tenant, count)
        found[tenant] = count
    return found


@pytest.fixture
def here(stores: Installed, tenants: Tenants, tmp_path: Path) -> Site:
    assert tenants
    return site(tmp_path, stores)


def accept(stores: Installed, tenant: UUID, count: int) -> None:
    """Accept requests, and end every second one."""
    drafts = [make_draft(tenant) for _ in range(count)]
    with psycopg.connect(stores.url("csb-api-service"), autocommit=True) as conn:
        requests.insert(conn, drafts)
    wanted = [Candidate(correlation_id=d.correlation_id, digest=d.digest) for d in drafts[::2]]
    with psycopg.connect(stores.url("csb-worker-aws"), autocommit=True) as conn:
        taken = leases.claim(conn, wanted, worker="w", ttl=timedelta(seconds=30))
        leases.record(conn, [ended(lease) for lease in taken], worker="w")


def ended(lease: Any) -> End:
    return End(
        correlation_id=lease.correlation_id,
        token=lease.token,
        status=Status.SUCCESS,
        result={"done": True},
        changed=True,
        error=None,
        wait=None,
        counts_as_retry=False,
        checkpoint=None,
        refs=(),
    )


def seen(url: str, tenant: UUID) -> int:
    """How many requests the API sees for a tenant, by its own role and password."""
    with as_tenant(url, tenant) as conn:
        row = conn.execute("SELECT count(*) FROM csb_app.csb_requests").fetchone()
    assert row is not None
    return int(row[0])


def as_superuser(stores: Installed, statement: str, database: str = "csb") -> None:
    url = stores.superuser.replace("/csb", f"/{database}")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(statement.encode())


def on_shelf(here: Site) -> Path:
    """The only backup, as the shelf has it."""
    (name,) = here.backups
    return here.folder / "shelf" / name


def rewritten(backup: Path) -> None:
    """Make the sums fit again, so that only what comes after them can find the fault."""
    names = ("database.dump", "roles.psql", "manifest")
    sums = subprocess.run(
        ["sha256sum", *names], cwd=backup, capture_output=True, text=True, check=True
    )
    (backup / "SHA256SUMS").write_text(sums.stdout)


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


def _with_one_more_row(backup: Path) -> None:
    manifest = backup / "manifest"
    text, changed = re.subn(
        r"^(rows\|csb_requests\|)(\d+)",
        lambda m: f"{m[1]}{int(m[2]) + 1}",
        manifest.read_text(),
        flags=re.MULTILINE,
    )
    assert changed == 1
    manifest.write_text(text)
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
        (_with_one_more_row, "< rows|csb_requests|"),
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


def test_a_lost_schema_is_put_back_while_clients_are_connected(
    stores: Installed, here: Site, tenants: Tenants
) -> None:
    api = stores.url("csb-api-service")
    assert here.run("backup").returncode == 0
    before = {tenant: seen(api, tenant) for tenant in tenants}
    as_superuser(stores, "DROP SCHEMA csb_app CASCADE")
    with pytest.raises(psycopg.errors.UndefinedTable):
        seen(api, next(iter(tenants)))

    with closing(psycopg.connect(api)) as connected:
        connected.execute("SELECT 1")
        began = time.monotonic()
        done = here.run("restore")
        took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    print(f"\n{done.stdout.splitlines()[-1]}, after {took:.1f} s")

    assert {tenant: seen(api, tenant) for tenant in tenants} == before == tenants
    old = re.search(r"called (csb_before_\d{14}) now", done.stdout)
    assert old is not None, "what stood there is still there"
    as_superuser(stores, "SELECT 1", database=old[1])
    assert migrate_module().up(stores.url("csb-migrator", "CSB_MIGRATOR_DATABASE_URL")) == []
    assert here.run("backup").returncode == 0, "it is one from which backups can be taken"


def test_a_restore_that_fails_changes_nothing(
    stores: Installed, here: Site, tenants: Tenants
) -> None:
    assert here.run("backup").returncode == 0
    _with_one_more_row(on_shelf(here))
    done = here.run("restore")
    assert done.returncode == 1
    assert "not what was dumped" in done.stderr
    assert {t: seen(stores.url("csb-api-service"), t) for t in tenants} == tenants


def test_a_new_server_gets_everything(
    here: Site, tenants: Tenants, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another server, without our roles and with passwords of its own: a backup, then bootstrap."""
    assert here.run("backup").returncode == 0
    with installed(tmp_path_factory.mktemp("elsewhere")) as elsewhere:
        there = site(tmp_path_factory.mktemp("site"), elsewhere)
        shutil.rmtree(there.folder / "shelf")
        shutil.copytree(here.folder / "shelf", there.folder / "shelf")
        done = there.run("restore")
        assert done.returncode == 0, done.stderr
        assert elsewhere.migrate() == [], "the schema came with the backup; passwords did not"
        assert {t: seen(elsewhere.url("csb-api-service"), t) for t in tenants} == tenants


def test_verified_backups_stay_and_what_was_not_verified_goes(here: Site) -> None:
    shelf = here.folder / "shelf"
    taken = []
    for _ in range(3):
        assert here.run("backup").returncode == 0
        taken.append(here.backups[-1])
        time.sleep(1.1)  # they are named by the second
    assert here.backups == taken[1:], "backup.keep=2"

    shutil.copytree(shelf / taken[1], shelf / "20200101T000000Z")
    (shelf / "20200101T000000Z/VERIFIED").unlink()
    (shelf / "20200102T000000Z").mkdir()
    (shelf / "20200102T000000Z/manifest").write_text("cut off here")
    assert here.run("backup").returncode == 0
    assert here.backups == [taken[2], here.backups[-1]]


def test_the_newest_verified_backup_is_restored_unless_another_is_named(here: Site) -> None:
    assert here.run("backup").returncode == 0
    verified = on_shelf(here)
    newer = verified.with_name("29990101T000000Z")
    shutil.copytree(verified, newer)
    (newer / "VERIFIED").unlink()
    bring = here.container("restore", "shelf")
    shutil.rmtree(here.folder / "work")
    (here.folder / "work").mkdir()
    assert here.step(bring).stdout == f"shelf: brought {verified.name}\n"
    bring["command"] = [*bring["command"][:-1], newer.name]
    assert here.step(bring).stdout == f"shelf: brought {newer.name}\n"
    bring["command"] = [*bring["command"][:-1], "20010101T000000Z"]
    assert "no such backup" in here.step(bring).stderr


@pytest.fixture
def bucket() -> Iterator[str]:
    """S3 as moto speaks it, over HTTP."""
    server = ThreadedMotoServer(ip_address=ports.HOST, port=ports.free_port(), verbose=False)
    server.start()
    try:
        yield f"http://{ports.HOST}:{server._port}"
    finally:
        server.stop()


def test_a_bucket_keeps_them_as_well(
    stores: Installed, tenants: Tenants, tmp_path: Path, bucket: str
) -> None:
    secrets = {"csb-bucket": {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}}
    where = {"AWS_ENDPOINT_URL": bucket, "AWS_REGION": "eu-central-1"}
    client = boto3.client(
        "s3", "us-east-1", endpoint_url=bucket, aws_access_key_id="t", aws_secret_access_key="t"
    )
    client.create_bucket(Bucket="backups")
    here = site(tmp_path, stores, values=IN_BUCKET, more=secrets)
    for _ in range(3):
        done = here.run("backup", **where)
        assert done.returncode == 0, done.stderr
        time.sleep(1.1)
    keys_there = [one["Key"] for one in client.list_objects_v2(Bucket="backups")["Contents"]]
    assert len(keys_there) == 2 * 5
    assert all(re.match(r"csb/\d{8}T\d{6}Z/", key) for key in keys_there)
    done = here.run("restore", **where)
    assert done.returncode == 0, done.stderr
    assert {t: seen(stores.url("csb-api-service"), t) for t in tenants} == tenants

    done = here.run("backup", **{**where, "AWS_ENDPOINT_URL": f"http://{ports.HOST}:1"})
    assert done.returncode == 1
    assert "Could not connect" in done.stderr


def test_a_bucket_must_be_somewhere() -> None:
    with pytest.raises(NotRendered, match=r"backup\.bucket\.egressTo"):
        rendered(preset="small", values=IN_BUCKET[:-1])
