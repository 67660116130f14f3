"""What operators change is on record, without secrets, whoever changed it and however."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import pytest
from db.tests.world import acting, outcome
from psycopg.rows import dict_row

from csb_core import control_audit, keys
from csb_core.db import Connection
from csb_core.testing import Database, make_api_key


@pytest.fixture
def admin(shared: Database) -> Iterator[Connection]:
    with acting(shared, "csb_admin_user") as conn:
        yield conn


def _traces(conn: Connection, tenant: UUID) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            "SELECT event, subject, actor, db_role, detail, a::text AS whole"
            "  FROM csb_app.csb_control_audit a WHERE tenant_id = %s ORDER BY audit_id",
            (tenant,),
        )
        return cur.fetchall()


#: table -> its columns, each with another value; the trail must tell of every one
CHANGES: Final = {
    "csb_tenants": {
        "code": "'renamed'",
        "name": "'Renamed'",
        "status": "'suspended'",
        "requests_per_minute": "7",
        "created_at": "'2020-01-01'",
        "util_max_timeout_seconds": "7",
        "util_max_memory_mb": "77",
        "util_max_cpu": "0.5",
        "util_min_security_score": "7",
    },
    "csb_api_keys": {
        "key_id": "'aaaaaaaaaaaa'",
        "digest": "sha256('other')",
        "label": "'other'",
        "scopes": "'{requests:write}'",
        "requests_per_minute": "7",
        "created_at": "'2020-01-01'",
        "expires_at": "'2020-01-01'",
        "revoked_at": "'2020-01-01'",
        "replaced_by": "key_id",
    },
    "csb_target_accounts": {
        "cloud_provider": "'gcp'",
        "account_id": "'222233334444'",
        "role_arn": "'arn:other'",
        "external_id": "'other'",
        "label": "'other'",
        "status": "'disabled'",
        "created_at": "'2020-01-01'",
    },
}


@pytest.mark.parametrize("table", CHANGES)
def test_every_change_leaves_one_trace(
    tenant: UUID, shared: Database, admin: Connection, table: str
) -> None:
    make_api_key(shared.admin, tenant, "requests:read")
    begun = _traces(admin, tenant)
    assert sorted(one["event"] for one in begun) == [f"{name}.insert" for name in sorted(CHANGES)]

    for column, value in CHANGES[table].items():
        with admin.transaction(force_rollback=True):
            admin.execute(
                f"UPDATE csb_app.{table} SET {column} = {value} WHERE tenant_id = %s", (tenant,)
            )
            [trace] = _traces(admin, tenant)[len(begun) :]
            assert trace["event"] == f"{table}.update", column
            if column not in {"digest", "external_id"}:
                before, after = trace["detail"].get("before", {}), trace["detail"]["after"]
                assert before.get(column) != after[column], column
    assert _traces(admin, tenant) == begun  # what was rolled back left none


def test_no_secret_is_in_the_trail(tenant: UUID, shared: Database, admin: Connection) -> None:
    token = make_api_key(shared.admin, tenant)
    for change in (
        "csb_target_accounts SET external_id = 'csb-new-secret'",
        "csb_api_keys SET digest = sha256('x'), label = 'other'",
    ):
        admin.execute(f"UPDATE csb_app.{change} WHERE tenant_id = %s", (tenant,))
    whole = "".join(one["whole"] for one in _traces(admin, tenant))
    for secret in (
        token.rpartition("_")[2],
        keys.token_digest(token).hex(),
        f"csb-{tenant.hex}",
        "csb-new-secret",
        "external_id",
        "digest",
    ):
        assert secret not in whole


def test_a_trace_names_the_operator_and_the_role(tenant: UUID, admin: Connection) -> None:
    rename = "UPDATE csb_app.csb_tenants SET name = 'Other' WHERE tenant_id = %s"
    with control_audit.acting(admin, "alice@example.org"):
        admin.execute(rename, (tenant,))
    admin.execute(rename, (tenant,))
    named, unnamed = _traces(admin, tenant)[-2:]
    assert (named["actor"], named["db_role"]) == ("alice@example.org", "csb_admin_user")
    assert (unnamed["actor"], unnamed["db_role"]) == ("csb_admin_user", "csb_admin_user")


def test_a_delete_leaves_a_trace_as_well(tenant: UUID, shared: Database, admin: Connection) -> None:
    remove = "DELETE FROM csb_app.csb_target_accounts WHERE tenant_id = %s"
    assert outcome(admin, remove, tenant) == "denied"  # operators disable; they do not delete
    with acting(shared, "superuser") as conn:
        conn.execute(remove, (tenant,))
    last = _traces(admin, tenant)[-1]
    assert last["event"] == "csb_target_accounts.delete"
    assert (last["subject"], last["db_role"]) == ("111122223333", "postgres")


def test_a_note_cannot_pass_for_a_change(tenant: UUID, admin: Connection) -> None:
    control_audit.note(
        admin, "csb_tenants.update", subject="acme", tenant_id=tenant, detail={"after": {}}
    )
    assert _traces(admin, tenant)[-1]["event"] == "operator.csb_tenants.update"
