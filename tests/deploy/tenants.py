"""A world to be backed up: two tenants, with requests and utils of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.deploy.backups import Site, site
from tests.deploy.installed import Installed, installed

from csb_core import leases, requests
from csb_core.leases import Candidate, End
from csb_core.states import Status
from csb_core.testing import as_tenant, make_draft, make_tenant, make_util

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
