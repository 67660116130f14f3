"""Who sees which util: its tenant, whom it is shared with, nobody else; and nothing beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from db.tests.world import acting, set_tenant, submit

from csb_core import api_keys, keys, util_executions, util_rules, util_search, util_shares
from csb_core.db import Connection, Pool, tenant_transaction
from csb_core.errors import NotFound
from csb_core.testing import (
    Database,
    as_tenant,
    make_api_key,
    make_tenant,
    make_util,
    make_util_draft,
)
from csb_core.util_models import Permission
from csb_core.util_search import Filters

PoolOf = Callable[..., Pool]
TABLES = ("csb_utils", "csb_util_versions", "csb_util_shares", "csb_util_rules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """An owner with two utils and a rule, and two keys of another tenant."""

    database: Database
    owner: UUID
    util: UUID
    private: UUID
    grantee: UUID
    key: str
    other_key: str

    def share(self, grantee: UUID | str, permission: Permission = "read") -> UUID:
        with as_tenant(self.database.api, self.owner) as conn:
            made = util_shares.share(conn, self.util, grantee, permission=permission, by="k")
        return made.share_id

    def seen(self, tenant: UUID, key: str | None = None) -> set[UUID]:
        """The owner's utils that this caller sees, by every way of looking."""
        with as_tenant(self.database.api, tenant, key) as conn:
            heads = set(_ids(conn, "csb_utils"))
            assert set(_ids(conn, "csb_util_versions")) == heads
            listed = util_search.list_page(conn, Filters(), limit=100)
            assert {one.util_id for one in listed} == heads
            for util_id in (self.util, self.private):
                found = util_executions.resolve(conn, util_id)
                assert (found is not None) == (util_id in heads)
            return heads & {self.util, self.private}


def _ids(conn: Connection, table: str) -> list[UUID]:
    return [row[0] for row in conn.execute(f"SELECT util_id FROM csb_app.{table}")]


@pytest.fixture
def near(shared: Database) -> Neighbours:
    owner, grantee = make_tenant(shared.admin), make_tenant(shared.admin)
    key, other_key = (keys.key_id_of(make_api_key(shared.admin, grantee)) for _ in range(2))
    util, private = make_util(shared.api, owner), make_util(shared.api, owner)
    with as_tenant(shared.api, owner) as conn:
        util_rules.put(
            conn, "R1", severity="error", kind="forbid_name", pattern="x", message="", by="k"
        )
    return Neighbours(
        database=shared,
        owner=owner,
        util=util,
        private=private,
        grantee=grantee,
        key=key,
        other_key=other_key,
    )


@pytest.fixture
def stranger(shared: Database) -> UUID:
    return make_tenant(shared.admin)


def test_a_util_is_its_tenants_alone_until_it_is_shared(near: Neighbours, stranger: UUID) -> None:
    assert near.seen(near.owner) == {near.util, near.private}
    for tenant in (near.grantee, stranger):
        assert near.seen(tenant) == set()
        assert near.seen(tenant, near.key) == set()


def test_a_share_with_a_tenant_serves_all_its_keys_and_no_other(
    near: Neighbours, stranger: UUID
) -> None:
    share_id = near.share(near.grantee)
    for key in (None, near.key, near.other_key, "nobody000000"):
        assert near.seen(near.grantee, key) == {near.util}
        assert near.seen(stranger, key) == set()
    with as_tenant(near.database.api, near.owner) as conn:
        util_shares.unshare(conn, near.util, share_id)
    assert near.seen(near.grantee, near.key) == set()


def test_a_share_with_a_key_serves_that_key_of_its_tenant(near: Neighbours, stranger: UUID) -> None:
    near.share(near.key)
    assert near.seen(near.grantee, near.key) == {near.util}
    assert near.seen(near.grantee, None) == set()
    assert near.seen(near.grantee, near.other_key) == set()
    assert near.seen(stranger, near.key) == set()  # whoever names a key that is not its own


@pytest.mark.parametrize(
    ("change", "still"),
    [
        ("revoked_at = now()", False),
        ("expires_at = now() - interval '1 second'", False),
        ("expires_at = now() + interval '1 hour'", True),
        ("label = 'renamed'", True),
    ],
)
def test_an_ended_key_has_no_share(
    near: Neighbours,
    change: str,
    still: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    near.share(near.key)
    with acting(near.database, "csb_admin_user") as conn:
        conn.execute(f"UPDATE csb_app.csb_api_keys SET {change} WHERE key_id = %s", (near.key,))
    assert near.seen(near.grantee, near.key) == ({near.util} if still else set())


def test_a_rotated_key_keeps_its_shares(near: Neighbours) -> None:
    near.share(near.key)
    newest = near.key
    with acting(near.database, "csb_admin_user") as conn:
        for _ in range(2):
            _, made = api_keys.rotate(conn, newest, overlap=timedelta(hours=1))
            newest = made.key_id
            assert near.seen(near.grantee, newest) == {near.util}
        api_keys.revoke(conn, newest)
    assert near.seen(near.grantee, newest) == set()
    assert near.seen(near.grantee, near.key) == {near.util}  # until the overlap ends


@pytest.mark.parametrize("permission", ["read", "execute", "edit"])
def test_a_grantee_sees_the_util_and_nothing_else_of_its_owner(
    near: Neighbours, stranger: UUID, permission: Permission
) -> None:
    ours = near.share(near.grantee, permission)
    near.share(stranger)
    submit(near.database, make_util_draft(near.database.api, near.owner, near.util))
    with as_tenant(near.database.api, near.grantee, near.key) as conn:
        assert _ids(conn, "csb_utils") == [near.util]
        assert [one.share_id for one in util_shares.list_of(conn, near.util)] == [ours]
        assert util_rules.list_all(conn) == []
        assert util_executions.list_of(conn, near.util).requests == []
        found = util_executions.resolve(conn, near.util)
        for table in ("csb_requests", "csb_requests_audit", "csb_util_rules"):
            owners = f"SELECT FROM csb_app.{table} WHERE tenant_id = %s"
            assert conn.execute(owners, (near.owner,)).rowcount == 0
        owners = "SELECT FROM csb_app.csb_tenants WHERE tenant_id = %s"
        assert conn.execute(owners, (near.owner,)).rowcount == 0
    assert found is not None
    assert found.util.access == permission


def test_an_owner_does_not_see_who_runs_its_util(near: Neighbours) -> None:
    near.share(near.grantee, "execute")
    theirs = make_util_draft(near.database.api, near.grantee, near.util)
    submit(near.database, theirs)
    with as_tenant(near.database.api, near.grantee) as conn:
        [run] = util_executions.list_of(conn, near.util).requests
        assert run.correlation_id == theirs.correlation_id
        assert run.tenant_id == near.grantee  # it runs as its caller's tenant
    with as_tenant(near.database.api, near.owner) as conn:
        assert util_executions.list_of(conn, near.util).requests == []
        assert conn.execute("SELECT FROM csb_app.csb_requests").rowcount == 0


def test_the_most_that_a_caller_was_given_counts(near: Neighbours) -> None:
    near.share(near.grantee, "read")
    near.share(near.key, "edit")
    for key, access in ((near.key, "edit"), (near.other_key, "read"), (None, "read")):
        with as_tenant(near.database.api, near.grantee, key) as conn:
            found = util_executions.resolve(conn, near.util)
        assert found is not None
        assert found.util.access == access


@pytest.mark.parametrize("table", TABLES)
def test_no_setting_shows_nothing(near: Neighbours, table: str) -> None:
    near.share(near.key)
    with acting(near.database, "csb_api_user", autocommit=False) as conn:
        looked = f"SELECT FROM csb_app.{table}"
        assert conn.execute(looked).rowcount == 0
        conn.execute("SELECT set_config('csb.key_id', %s, true)", (near.key,))  # a key, no tenant
        assert conn.execute(looked).rowcount == 0
        set_tenant(conn, "")
        assert conn.execute(looked).rowcount == 0


def test_the_next_on_a_connection_inherits_no_key(near: Neighbours, pool_of: PoolOf) -> None:
    near.share(near.key)
    pool = pool_of(near.database.api)
    look = "SELECT util_id FROM csb_app.csb_utils"
    with tenant_transaction(pool, near.grantee, key_id=near.key) as conn:
        assert conn.execute(look).fetchall() == [(near.util,)]
    with tenant_transaction(pool, near.grantee) as conn:
        assert conn.execute(look).fetchall() == []
    with pool.connection() as careless:  # and for the whole session
        careless.execute("SELECT set_config('csb.key_id', %s, false)", (near.key,))
    with tenant_transaction(pool, near.grantee) as conn:
        assert conn.execute(look).fetchall() == []
    with tenant_transaction(pool, near.grantee, key_id=near.other_key) as conn:
        assert conn.execute(look).fetchall() == []
    with pool.connection() as careless:
        careless.execute("RESET csb.key_id")


def test_a_share_needs_somebody_to_share_with(near: Neighbours) -> None:
    for nobody in (uuid4(), "nobody000000"):
        with pytest.raises(NotFound):
            near.share(nobody)
