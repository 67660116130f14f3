"""How the utils' statements find their rows among many tenants' utils and executions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import pytest
from db.tests import plans
from db.tests.conftest import Clone
from db.tests.world import acting, claim, end_of

from csb_core import (
    claimed_utils,
    leases,
    requests,
    util_executions,
    util_search,
    util_shares,
    util_status,
    util_store,
    util_versions,
)
from csb_core.db import Connection
from csb_core.states import Status
from csb_core.testing import Database, as_tenant, make_tenant, make_util, make_util_draft
from csb_core.util_search import Filters

TENANTS: Final = 200
UTILS: Final = 50  # of each
EXECUTIONS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """Many tenants with utils; one of them has run one of its utils often, and was lent another."""

    database: Database
    tenant: UUID
    util: UUID
    lent: UUID


@pytest.fixture(scope="module")
def town(clone: Clone) -> Iterator[Town]:
    with clone() as database:
        tenant, lender = make_tenant(database.admin), make_tenant(database.admin)
        util, lent = make_util(database.api, tenant), make_util(database.api, lender)
        with as_tenant(database.api, lender) as conn:
            util_shares.share(conn, lent, tenant, permission="execute", by="k")
        _crowd(database, util)
        yield Town(database=database, tenant=tenant, util=util, lent=lent)


def _crowd(database: Database, util: UUID) -> None:
    """Copies of the util for others, shares among them, and a history of executions."""
    with acting(database, "superuser", autocommit=False) as conn:
        for table in ("csb_utils", "csb_util_versions", "csb_util_shares", "csb_requests"):
            conn.execute(f"ALTER TABLE csb_app.{table} SET (autovacuum_enabled = off)")
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute(
            """
            INSERT INTO csb_app.csb_tenants (tenant_id, code, name)
            SELECT gen_random_uuid(), 'crowd-' || n, 'Crowd' FROM generate_series(1, %s) n
            """,
            (TENANTS,),
        )
        conn.execute(
            """
            WITH heads AS (
                INSERT INTO csb_app.csb_utils (util_id, tenant_id, owner, name, kind, status,
                                               active_version, created_by, updated_by)
                SELECT gen_random_uuid(), t.tenant_id, 'k', 'util-' || n, 'transformer', 'active',
                       1, 'k', 'k'
                  FROM csb_app.csb_tenants t, generate_series(1, %s) n
                 WHERE t.code LIKE 'crowd-%%'
                RETURNING util_id, tenant_id),
            lent AS (
                INSERT INTO csb_app.csb_util_shares (share_id, util_id, tenant_id,
                                                     grantee_tenant_id, permission, created_by)
                SELECT gen_random_uuid(), h.util_id, h.tenant_id, t.tenant_id, 'edit', 'k'
                  FROM heads h
                  JOIN csb_app.csb_tenants t ON t.tenant_id <> h.tenant_id AND t.code = 'crowd-1')
            INSERT INTO csb_app.csb_util_versions
                   (util_id, version, tenant_id, digest, code, parameters, execution_config,
                    validation, created_by)
            SELECT heads.util_id, 1, heads.tenant_id, v.digest, v.code, v.parameters,
                   v.execution_config, v.validation, 'k'
              FROM heads, csb_app.csb_util_versions v
             WHERE v.util_id = %s
            """,
            (UTILS, util),
        )
        conn.execute(
            """
            INSERT INTO csb_app.csb_requests
                   (correlation_id, tenant_id, cloud_provider, action, payload, digest,
                    requested_by, moved_by, request_id, status, finished_at, util_id,
                    util_version, util_digest, util_limits)
            SELECT gen_random_uuid(), tenant_id, 'sandbox', 'run_util', '{}', 'd', 'k', 'w', 'r',
                   'SUCCESS', now(), util_id, 1, 'd',
                   '{"timeout_seconds": 1, "memory_limit_mb": 64, "cpu_limit": 1}'
              FROM csb_app.csb_utils, generate_series(1, %s)
             WHERE util_id = %s
            """,
            (EXECUTIONS, util),
        )
        conn.commit()


@pytest.fixture(scope="module", params=["never analysed", "analysed"])
def large(town: Town, request: pytest.FixtureRequest) -> Town:
    if request.param == "analysed":
        with acting(town.database, "superuser") as conn:
            conn.execute("ANALYZE")
    return town


#: What the API sends in a transaction of a caller; none may read the others' rows.
CALLS: Final[Mapping[str, Callable[[Connection, Town], object]]] = {
    "get": lambda conn, t: util_store.seen(conn, t.util),
    "get a lent one": lambda conn, t: util_store.seen(conn, t.lent),
    "resolve": lambda conn, t: util_executions.resolve(conn, t.util),
    "resolve a lent one": lambda conn, t: util_executions.resolve(conn, t.lent),
    "list": lambda conn, _: util_search.list_page(conn, Filters(), limit=50),
    "count": lambda conn, _: util_search.count(conn, Filters(tag="a")),
    "search": lambda conn, _: util_search.list_page(conn, Filters(q="x", kind="script"), limit=50),
    "versions": lambda conn, t: util_versions.list_of(conn, t.util),
    "shares": lambda conn, t: util_shares.list_of(conn, t.util),
    "executions": lambda conn, t: util_executions.list_of(conn, t.util, limit=50),
    "tests": lambda conn, t: util_executions.list_of(conn, t.util, action="test_util"),
    "test under way": lambda conn, t: util_executions.unfinished_test(conn, t.util, 1),
    "figures": lambda conn, t: util_executions.figures(conn, t.util, latest=100),
    "activate": lambda conn, t: util_status.activate(conn, t.util, by="k"),
    "rollback": lambda conn, t: util_versions.rollback(conn, t.util, 1, by="k"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_callers_statement_reads_the_callers_rows(large: Town, name: str) -> None:
    with as_tenant(large.database.api, large.tenant) as conn:
        for statement in plans.sent_by(conn, lambda conn: CALLS[name](conn, large)):
            plan = plans.plan_of(conn, statement, analyse=True)
            scans = [node["Node Type"] for node in plans.nodes(plan)]
            assert plans.buffers(plan) < 200, scans


@pytest.mark.parametrize("lent", [False, True])
def test_accepting_an_execution_reads_no_history(
    large: Town,
    lent: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    util = large.lent if lent else large.util
    one = make_util_draft(large.database.api, large.tenant, util)
    with (
        acting(large.database, "csb_api_user") as conn,
        conn.transaction(force_rollback=True),
    ):
        for _ in range(8):  # from the sixth call on, a function may keep a generic plan
            again = make_util_draft(large.database.api, large.tenant, util)
            assert requests.insert(conn, [again])[0].outcome == "created"
        for table in ("csb_requests", "csb_utils", "csb_util_versions", "csb_util_shares"):
            assert plans.rows_read(conn, table) < 200, table
    assert one.util is not None


def test_a_util_is_deleted_without_a_look_at_its_history(large: Town) -> None:
    with acting(large.database, "superuser") as conn:
        pages = "SELECT pg_relation_size('csb_app.csb_requests') / 8192"
        [(pages,)] = conn.execute(pages).fetchall()
    with as_tenant(large.database.api, large.tenant) as conn:
        [statement] = plans.sent_by(conn, lambda conn: util_status.delete(conn, large.util, by="k"))
        plan = plans.plan_of(conn, statement, analyse=True)
    assert plans.buffers(plan) < pages / 4


def test_the_version_in_hand_is_found_by_ids(large: Town) -> None:
    one = make_util_draft(large.database.api, large.tenant, large.util)
    with acting(large.database, "csb_api_user") as conn:
        requests.insert(conn, [one])
    with acting(large.database, "csb_sandbox_user") as conn:
        lease = claim(conn, one)
        with conn.transaction():
            for _ in range(8):
                assert claimed_utils.fetch(conn, one.correlation_id, lease.token) is not None
            for table in ("csb_requests", "csb_utils", "csb_util_versions"):
                assert plans.rows_read(conn, table) < 100, table
        leases.record(conn, [end_of(lease, Status.SUCCESS)], worker="w")
