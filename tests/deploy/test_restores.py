"""A restore puts everything back, and destroys nothing; a shelf keeps what was verified."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from tests.deploy.backups import IN_BUCKET, Site, on_shelf, site, with_one_more_row
from tests.deploy.installed import Installed, installed
from tests.deploy.tenants import Tenants, as_superuser, seen

from csb_core import requests
from csb_core.local import ports
from csb_core.testing import make_draft, make_tenant, migrate_module


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
    with_one_more_row(on_shelf(here))
    done = here.run("restore")
    assert done.returncode == 1
    assert "not what was dumped" in done.stderr
    assert {t: seen(stores.url("csb-api-service"), t) for t in tenants} == tenants


def test_a_session_that_cannot_be_ended_keeps_the_old_database_in_its_place(
    stores: Installed, here: Site, tenants: Tenants
) -> None:
    """Its process is stopped, so it does not hear that it must end; others come back in."""
    api = stores.url("csb-api-service")
    assert here.run("backup").returncode == 0
    with closing(psycopg.connect(api)) as held:
        os.kill(held.info.backend_pid, signal.SIGSTOP)
        try:
            done = here.run("restore")
        finally:
            os.kill(held.info.backend_pid, signal.SIGCONT)
    assert done.returncode == 1
    assert "is being accessed by other users" in done.stderr
    assert "csb could not be replaced, and stands as before" in done.stderr
    assert {tenant: seen(api, tenant) for tenant in tenants} == tenants


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

    form = "%Y%m%dT%H%M%SZ"
    moment = datetime.strptime(taken[2], form).replace(tzinfo=UTC) + timedelta(seconds=1)
    unverified = shelf / moment.strftime(form)
    shutil.copytree(shelf / taken[1], unverified)
    (unverified / "VERIFIED").unlink()
    (shelf / "20200102T000000Z").mkdir()
    (shelf / "20200102T000000Z/manifest").write_text("cut off here")
    time.sleep(1.1)
    assert here.run("backup").returncode == 0
    assert here.backups == [taken[2], here.backups[-1]], "it pushes out none that was verified"


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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_how_long_it_takes(tmp_path: Path) -> None:
    """Of so many requests; docs/disaster-recovery.md has what it printed."""
    count = int(os.environ.get("CSB_RESTORE_REQUESTS", "100000"))
    with installed(tmp_path) as stores:
        stores.migrate()
        tenant = make_tenant(stores.url("csb-csbctl", "CSB_ADMIN_DATABASE_URL"))
        with psycopg.connect(stores.url("csb-api-service"), autocommit=True) as conn:
            for _ in range(0, count, 500):
                requests.insert(conn, [make_draft(tenant) for _ in range(500)])
        with psycopg.connect(stores.superuser) as conn:
            row = conn.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        here = site(tmp_path / "site", stores)
        took = {}
        for pod in ("backup", "restore"):
            began = time.monotonic()
            done = here.run(pod)
            took[pod] = time.monotonic() - began
            assert done.returncode == 0, done.stderr
        assert seen(stores.url("csb-api-service"), tenant) == count
    print(
        f"\n{count} requests, {row[0] / 1e6:.0f} MB: backup and proof {took['backup']:.1f} s, "
        f"restore {took['restore']:.1f} s"
    )


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
