"""The tenant setting on connections that many share: it is never another one's, nor left behind."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import psycopg
import pytest
from db.tests.world import World, acting, draft

from csb_core import request_search, requests
from csb_core.db import Connection, Pool, connection, tenant_transaction
from csb_core.errors import StoreRejected, StoreUnavailable
from csb_core.request_search import Filters
from csb_core.states import Status
from csb_core.testing import make_tenant

PoolOf = Callable[..., Pool]


@pytest.fixture
def pool(world: World, pool_of: PoolOf) -> Pool:
    """One connection as the API, lent to everybody in turn."""
    return pool_of(world.database.api)


def _traces(conn: Connection) -> tuple[int, str]:
    """How many rows show without a door, and what stands in the setting."""
    [row] = conn.execute(
        "SELECT (SELECT count(*) FROM csb_app.csb_requests),"
        " COALESCE(current_setting('csb.tenant_id', true), '')"
    ).fetchall()
    return row[0], row[1]


CLEAN = (0, "")


def _backend(pool: Pool) -> int:
    with connection(pool) as conn:
        return int(conn.execute("SELECT pg_backend_pid()").fetchall()[0][0])


def _by_transaction(pool: Pool, world: World) -> object:
    with tenant_transaction(pool, world.ours) as conn:
        return request_search.search(conn, Filters(), before=None, limit=1)


def _by_get(pool: Pool, world: World) -> object:
    with connection(pool) as conn:
        return requests.get(conn, world.ours, world.of("aws", Status.PENDING))


def _by_submit(pool: Pool, world: World) -> object:
    with connection(pool) as conn:
        return requests.insert(conn, [draft(world.ours)])


def _by_submit_in_a_transaction(pool: Pool, world: World) -> object:
    with connection(pool) as conn, conn.transaction():
        requests.insert(conn, [draft(world.ours), draft(world.theirs)])
        return _traces(conn) == CLEAN


def _by_error_of_ours(pool: Pool, world: World) -> object:
    with suppress(ZeroDivisionError), tenant_transaction(pool, world.ours):
        return 1 / 0
    return True


def _by_error_of_sql(pool: Pool, world: World) -> object:
    with suppress(StoreRejected), tenant_transaction(pool, world.ours) as conn:
        conn.execute("SELECT 1 / 0")
    return True


def _by_refused_submit(pool: Pool, world: World) -> object:
    good, bad = draft(world.ours), draft(world.ours, client_request_id="x" * 201)
    with suppress(StoreRejected), connection(pool) as conn:
        requests.insert(conn, [good, bad])
    with connection(pool) as conn:
        assert requests.get(conn, world.ours, good.correlation_id) is None
    return True


def _by_savepoint(pool: Pool, world: World) -> object:
    with tenant_transaction(pool, world.ours) as conn:
        with conn.transaction(force_rollback=True):
            conn.execute("SELECT set_config('csb.tenant_id', %s, true)", (str(world.theirs),))
        return _traces(conn)[1] == str(world.ours)


@pytest.mark.parametrize(
    "used",
    [
        _by_transaction,
        _by_get,
        _by_submit,
        _by_submit_in_a_transaction,
        _by_error_of_ours,
        _by_error_of_sql,
        _by_refused_submit,
        _by_savepoint,
    ],
)
def test_a_door_leaves_nothing_behind(
    world: World, pool: Pool, used: Callable[[Pool, World], object]
) -> None:
    backend = _backend(pool)
    with connection(pool) as conn:
        assert _traces(conn) == CLEAN
    assert used(pool, world)
    with connection(pool) as conn:
        assert _traces(conn) == CLEAN
    assert _backend(pool) == backend  # it was the same connection all along


def test_a_connection_that_dies_in_a_transaction_leaves_nothing(world: World, pool: Pool) -> None:
    before = _backend(pool)
    with suppress(StoreUnavailable), tenant_transaction(pool, world.ours) as conn:
        with acting(world.database, "superuser") as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (before,))
        _traces(conn)
    with connection(pool) as conn:
        assert _traces(conn) == CLEAN
    assert _backend(pool) != before


def test_every_door_shows_its_own_tenant_whatever_somebody_left(world: World, pool: Pool) -> None:
    with connection(pool) as conn:  # somebody careless, for the whole session
        conn.execute("SELECT set_config('csb.tenant_id', %s, false)", (str(world.theirs),))
    try:
        with tenant_transaction(pool, world.ours) as conn:
            found = request_search.search(conn, Filters(), before=None, limit=1000).requests
            assert {one.tenant_id for one in found} == {world.ours}
            for status in Status:
                theirs = world.of("aws", status, world.theirs)
                assert requests.audit(conn, theirs) == []
                assert requests.refs(conn, theirs) is None
                assert requests.cancel(conn, theirs, actor="k") is None
        with connection(pool) as conn:
            for (owner, _, _), correlation_id in world.requests.items():
                shown = requests.get(conn, world.ours, correlation_id)
                assert (shown is not None) == (owner == world.ours)
        with connection(pool) as conn:
            one = draft(world.ours)
            assert requests.insert(conn, [one])[0].outcome == "created"
            assert requests.get(conn, world.theirs, one.correlation_id) is None
    finally:
        with connection(pool) as conn:
            conn.execute("RESET csb.tenant_id")


def test_two_clients_in_turn_see_each_their_own(world: World, pool_of: PoolOf) -> None:
    pools = {tenant: pool_of(world.database.api) for tenant in (world.ours, world.theirs)}
    for tenant in [world.ours, world.theirs] * 5:
        with tenant_transaction(pools[tenant], tenant) as conn:
            found = request_search.search(conn, Filters(), before=None, limit=1000).requests
            assert {one.tenant_id for one in found} == {tenant}
        for pool in pools.values():
            with connection(pool) as conn:
                assert _traces(conn) == CLEAN


def test_many_threads_on_few_connections_never_mix_tenants(world: World, pool_of: PoolOf) -> None:
    pool = pool_of(world.database.api, 3)
    tenants = [make_tenant(world.database.admin) for _ in range(6)]
    known: dict[UUID, list[UUID]] = {tenant: [] for tenant in tenants}
    faults: list[object] = []
    deadline = time.monotonic() + 1.5

    def live(tenant: UUID) -> None:
        chance = random.Random(tenant.int)
        while time.monotonic() < deadline and not faults:
            try:
                faults.extend(_one_call(pool, tenant, known, chance))
            except Exception as exc:  # noqa: BLE001 - a thread's fault is the test's
                faults.append(exc)

    threads = [threading.Thread(target=live, args=(tenant,)) for tenant in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert all(known.values())


def _one_call(
    pool: Pool, tenant: UUID, known: dict[UUID, list[UUID]], chance: random.Random
) -> list[object]:
    """Do one thing as this tenant; the answers that should not have come."""
    match chance.randrange(4):
        case 0:
            mixed = [draft(chance.choice(list(known))), draft(tenant)]
            with connection(pool) as conn:
                answers = requests.insert(conn, mixed)
            known[tenant].append(mixed[1].correlation_id)
            return [answer for answer in answers if answer.outcome != "created"]
        case 1:
            owner = chance.choice([one for one in known if known[one]] or [tenant])
            wanted = chance.choice(known[owner] or [tenant])
            with connection(pool) as conn:
                found = requests.get(conn, tenant, wanted)
            return [] if (found is not None) == (wanted in known[tenant]) else [found]
        case 2:
            with suppress(ZeroDivisionError), tenant_transaction(pool, tenant) as conn:
                conn.execute("SELECT FROM csb_app.csb_requests LIMIT 1")
                raise ZeroDivisionError
            return []
        case _:
            with tenant_transaction(pool, tenant) as conn:
                page = request_search.search(conn, Filters(), before=None, limit=50).requests
            return [one for one in page if one.tenant_id != tenant]


def test_a_prepared_plan_of_one_tenant_serves_the_next(world: World, pool_of: PoolOf) -> None:
    pool = pool_of(world.database.api)
    seen = []
    for tenant in [world.ours] * 8 + [world.theirs] * 8:
        with tenant_transaction(pool, tenant) as conn:
            rows = conn.execute("SELECT DISTINCT tenant_id FROM csb_app.csb_requests").fetchall()
            seen.append((tenant, [row[0] for row in rows]))
    assert all(found == [tenant] for tenant, found in seen)


def test_the_workers_provider_is_its_login_not_a_setting(world: World) -> None:
    with psycopg.connect(world.database.aws, autocommit=True) as conn:
        conn.execute("SELECT set_config('csb.provider', 'sandbox', false)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT set_config('role', 'csb_sandbox_user', false)")
        found = conn.execute("SELECT DISTINCT cloud_provider FROM csb_app.csb_requests").fetchall()
    assert found == [("aws",)]
