"""Tenants, keys and accounts: what each change does, and that none of them goes unseen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from csb_core import accounts, api_keys, control_audit, keys, tenants
from csb_core.api_keys import Terms
from csb_core.db import Connection
from csb_core.errors import Conflict, NotFound
from csb_core.models import Target
from csb_core.tenants import Tenant
from csb_core.testing import Database

ACCOUNT = "111122223333"


@pytest.fixture
def conn(database: Database) -> Iterator[Connection]:
    with (
        psycopg.connect(database.admin, autocommit=True) as conn,
        control_audit.acting(conn, "eve"),
    ):
        yield conn


@pytest.fixture
def tenant(conn: Connection) -> Tenant:
    return tenants.create(conn, code="acme", name="Acme Ltd")


def _target(account_id: str = ACCOUNT) -> Target:
    return Target(
        account_id=account_id,
        role_arn=f"arn:aws:iam::{account_id}:role/CSBExecutor",
        external_id=accounts.new_external_id(),
    )


def _opens(conn: Connection, token: str) -> bool:
    """Whether the API would let this token in; asked with the owner's right, as it does."""
    found = conn.execute(
        """
        SELECT k.key_id
          FROM csb_app.csb_api_keys k
          JOIN csb_app.csb_tenants t ON t.tenant_id = k.tenant_id
         WHERE k.digest = %s
           AND k.revoked_at IS NULL
           AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
           AND t.status = 'active'
        """,
        (keys.token_digest(token),),
    ).fetchone()
    return found is not None


def test_a_tenant_is_found_by_its_code(conn: Connection, tenant: Tenant) -> None:
    assert tenants.find(conn, "acme") == tenant
    assert tenants.list_all(conn) == [tenant]
    with pytest.raises(Conflict, match="'acme'"):
        tenants.create(conn, code="acme", name="Another")
    with pytest.raises(NotFound, match="tenant list"):
        tenants.find(conn, "nobody")


def test_a_suspended_tenants_keys_open_nothing(conn: Connection, tenant: Tenant) -> None:
    token, _ = api_keys.create(conn, tenant.tenant_id, Terms(scopes=["admin"]))
    assert _opens(conn, token)
    tenants.set_status(conn, tenant.tenant_id, "suspended")
    assert not _opens(conn, token)
    tenants.set_status(conn, tenant.tenant_id, "active")
    assert _opens(conn, token)


def test_a_token_is_stored_only_as_its_digest(conn: Connection, tenant: Tenant) -> None:
    token, key = api_keys.create(conn, tenant.tenant_id, Terms(scopes=["requests:read"]))
    assert keys.key_id_of(token) == key.key_id
    stored = conn.execute("SELECT csb_api_keys::text FROM csb_app.csb_api_keys").fetchall()
    trail = conn.execute("SELECT csb_control_audit::text FROM csb_app.csb_control_audit").fetchall()
    secret = token.rpartition("_")[2]
    assert not any(secret in row[0] for row in [*stored, *trail])
    assert not any(keys.token_digest(token).hex() in row[0] for row in trail)


def test_a_revoked_key_opens_nothing(conn: Connection, tenant: Tenant) -> None:
    token, key = api_keys.create(conn, tenant.tenant_id, Terms(scopes=["admin"]))
    api_keys.revoke(conn, key.key_id)
    assert not _opens(conn, token)
    with pytest.raises(NotFound, match=key.key_id):
        api_keys.revoke(conn, key.key_id)
    [listed] = api_keys.list_of(conn, tenant.tenant_id)
    assert listed.revoked_at is not None


def test_rotation_leaves_both_keys_working_for_the_overlap(
    conn: Connection, tenant: Tenant
) -> None:
    terms = Terms(scopes=["requests:read"], label="siem", requests_per_minute=7)
    token, key = api_keys.create(conn, tenant.tenant_id, terms)
    fresh_token, fresh = api_keys.rotate(conn, key.key_id, overlap=timedelta(hours=1))
    assert _opens(conn, token)
    assert _opens(conn, fresh_token)
    assert (fresh.scopes, fresh.label, fresh.requests_per_minute) == (["requests:read"], "siem", 7)

    old = next(k for k in api_keys.list_of(conn, tenant.tenant_id) if k.key_id == key.key_id)
    assert old.replaced_by == fresh.key_id
    assert old.expires_at is not None
    with pytest.raises(NotFound, match="replaced"):
        api_keys.rotate(conn, key.key_id, overlap=timedelta(hours=1))


def test_rotation_without_overlap_ends_the_old_key_at_once(
    conn: Connection, tenant: Tenant
) -> None:
    token, key = api_keys.create(conn, tenant.tenant_id, Terms(scopes=["admin"]))
    api_keys.rotate(conn, key.key_id, overlap=timedelta())
    assert not _opens(conn, token)


def test_rotation_never_lengthens_a_keys_life(conn: Connection, tenant: Tenant) -> None:
    soon = conn.execute("SELECT now() + interval '1 minute'").fetchone()
    assert soon is not None
    terms = Terms(scopes=["admin"], expires_at=soon[0])
    _, key = api_keys.create(conn, tenant.tenant_id, terms)
    api_keys.rotate(conn, key.key_id, overlap=timedelta(days=1))
    old = next(k for k in api_keys.list_of(conn, tenant.tenant_id) if k.key_id == key.key_id)
    assert old.expires_at == soon[0]


def test_a_key_that_is_to_end_is_replaced_by_one_that_is(conn: Connection, tenant: Tenant) -> None:
    ends = datetime.now(UTC) + timedelta(days=90)
    _, key = api_keys.create(conn, tenant.tenant_id, Terms(scopes=["admin"], expires_at=ends))
    conn.execute(
        "UPDATE csb_app.csb_api_keys SET created_at = now() - interval '10 days' WHERE key_id = %s",
        (key.key_id,),
    )
    _, fresh = api_keys.rotate(conn, key.key_id, overlap=timedelta(hours=1))
    assert fresh.expires_at is not None
    assert abs(fresh.expires_at - (ends + timedelta(days=10))) < timedelta(minutes=1)
    _, endless = api_keys.create(conn, tenant.tenant_id, Terms(scopes=["admin"]))
    assert api_keys.rotate(conn, endless.key_id, overlap=timedelta())[1].expires_at is None


def test_an_account_is_registered_once_and_can_be_closed(conn: Connection, tenant: Tenant) -> None:
    target = _target()
    account = accounts.register(conn, tenant.tenant_id, target, cloud_provider="aws", label="prod")
    assert account.target == target
    assert account.status == "active"
    with pytest.raises(Conflict, match="account enable"):
        accounts.register(conn, tenant.tenant_id, _target(), cloud_provider="aws")

    where = {"cloud_provider": "aws", "account_id": ACCOUNT}
    accounts.set_status(conn, tenant.tenant_id, status="disabled", **where)
    assert accounts.find(conn, tenant.tenant_id, **where).status == "disabled"
    with pytest.raises(NotFound, match="444455556666"):
        accounts.find(conn, tenant.tenant_id, cloud_provider="aws", account_id="444455556666")
    with pytest.raises(NotFound, match="444455556666"):
        accounts.set_status(
            conn,
            tenant.tenant_id,
            cloud_provider="aws",
            account_id="444455556666",
            status="active",
        )


def test_two_tenants_of_one_account_have_different_external_ids(conn: Connection) -> None:
    made = []
    for code in ("one", "two"):
        tenant = tenants.create(conn, code=code, name=code)
        made.append(accounts.register(conn, tenant.tenant_id, _target(), cloud_provider="aws"))
    assert made[0].external_id != made[1].external_id


def test_every_change_leaves_who_did_what(conn: Connection, tenant: Tenant) -> None:
    _, key = api_keys.create(conn, tenant.tenant_id, Terms(scopes=["admin"]))
    _, fresh = api_keys.rotate(conn, key.key_id, overlap=timedelta())
    api_keys.revoke(conn, fresh.key_id)
    target = _target()
    accounts.register(conn, tenant.tenant_id, target, cloud_provider="aws")
    tenants.set_status(conn, tenant.tenant_id, "suspended")
    control_audit.note(
        conn, "examined", subject=ACCOUNT, tenant_id=tenant.tenant_id, detail={"ok": True}
    )

    trail = control_audit.latest(conn, tenant_id=tenant.tenant_id, limit=50)
    assert {entry["actor"] for entry in trail} == {"eve"}
    assert {entry["db_role"] for entry in trail} == {"csb_admin_user"}
    assert sorted(entry["event"] for entry in trail) == [
        "csb_api_keys.insert",
        "csb_api_keys.insert",
        "csb_api_keys.update",
        "csb_api_keys.update",
        "csb_target_accounts.insert",
        "csb_tenants.insert",
        "csb_tenants.update",
        "operator.examined",
    ]
    assert target.external_id not in str(trail)


def test_a_change_that_is_rolled_back_leaves_nothing(database: Database) -> None:
    with psycopg.connect(database.admin, autocommit=True) as conn:
        with control_audit.acting(conn, "eve"):
            tenants.create(conn, code="acme", name="Acme")
            raise psycopg.Rollback
        assert tenants.list_all(conn) == []
        assert control_audit.latest(conn, tenant_id=None, limit=9) == []


def test_the_trail_takes_no_forged_event_and_no_change(conn: Connection, tenant: Tenant) -> None:
    control_audit.note(conn, "csb_tenants.delete", subject="x", tenant_id=None, detail={})
    assert control_audit.latest(conn, tenant_id=None, limit=1)[0]["event"] == (
        "operator.csb_tenants.delete"
    )
    for statement in (
        b"DELETE FROM csb_app.csb_control_audit",
        b"UPDATE csb_app.csb_control_audit SET actor = 'x'",
        b"INSERT INTO csb_app.csb_control_audit (actor) VALUES ('x')",
        b"TRUNCATE csb_app.csb_control_audit",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute(statement)
    assert tenant in tenants.list_all(conn)
