"""What each role sees of each table, whatever stands in the tenant setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal
from uuid import UUID

import psycopg
import pytest
from db.tests.world import ROLES, SERVICES, WORKERS, World, acting, set_tenant
from psycopg import sql

from csb_core.db import Connection

#: denied: no grant. nothing: no policy. tenant: rows of the transaction's tenant. provider: rows
#: of its own provider, of every tenant. all: everything.
Sight = Literal["denied", "nothing", "tenant", "provider", "all"]

#: table -> what identifies a row's tenant and provider; None where a row has none.
TABLES: Final[Mapping[str, tuple[str | None, str | None]]] = {
    "csb_tenants": ("tenant_id", None),
    "csb_api_keys": ("tenant_id", None),
    "csb_target_accounts": ("tenant_id", "cloud_provider"),
    "csb_requests": ("tenant_id", "cloud_provider"),
    "csb_requests_ref": ("tenant_id", "cloud_provider"),
    "csb_requests_audit": ("tenant_id", None),
    "csb_control_audit": ("tenant_id", None),
    "csb_security_events": ("tenant_id", None),
    "csb_utils": ("tenant_id", None),
    "csb_util_versions": ("tenant_id", None),
    "csb_util_shares": ("tenant_id", None),
    "csb_util_rules": ("tenant_id", None),
    "csb_schema_migrations": (None, None),
}

WORKER: Final[Mapping[str, Sight]] = {
    "csb_target_accounts": "provider",
    "csb_requests": "provider",
    "csb_requests_ref": "provider",
}
OWNER: Final[Mapping[str, Sight]] = {
    **dict.fromkeys(TABLES, "nothing"),
    "csb_tenants": "all",
    "csb_api_keys": "all",
    "csb_requests": "all",
    "csb_requests_ref": "all",
    "csb_requests_audit": "all",
    "csb_utils": "all",
    "csb_util_versions": "all",
    "csb_util_shares": "all",
    "csb_schema_migrations": "all",
}

#: What is not listed is denied.
SIGHT: Final[Mapping[str, Mapping[str, Sight]]] = {
    "csb_api_user": {
        "csb_tenants": "tenant",
        "csb_target_accounts": "tenant",
        "csb_requests": "tenant",
        "csb_requests_ref": "tenant",
        "csb_requests_audit": "tenant",
        "csb_utils": "tenant",
        "csb_util_versions": "tenant",
        "csb_util_shares": "tenant",
        "csb_util_rules": "tenant",
    },
    "csb_aws_user": WORKER,
    "csb_sandbox_user": WORKER,
    "csb_worker": dict.fromkeys(WORKER, "nothing"),
    "csb_admin_user": dict.fromkeys(TABLES, "all"),
    "csb_migrator": OWNER,
    "csb_owner": OWNER,
    "csb_backup_user": dict.fromkeys(TABLES, "all"),
    "superuser": dict.fromkeys(TABLES, "all"),
}


Rows = Counter[tuple[object, ...]]


@pytest.mark.parametrize("setting", ["unset", "", "ours", "theirs"])
@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_its_part_of_each_table(world: World, role: str, setting: str) -> None:
    tenant = getattr(world, setting, None)
    with acting(world.database, "superuser") as conn:
        everything = {table: _rows(conn, table) for table in TABLES}

    with acting(world.database, role, autocommit=False) as conn:
        for table in TABLES:
            if setting != "unset":
                set_tenant(conn, tenant or setting)
            sight = SIGHT[role].get(table, "denied")
            try:
                seen: Rows | None = _rows(conn, table)
            except psycopg.errors.InsufficientPrivilege:
                seen = None
            assert seen == _part(everything[table], sight, tenant, WORKERS.get(role)), table
            conn.rollback()


def _rows(conn: Connection, table: str) -> Rows:
    """How many rows of which tenant and provider the table shows."""
    columns = [column for column in TABLES[table] if column is not None]
    query = sql.SQL("SELECT {} FROM csb_app.{}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table)
    )
    return Counter(conn.execute(query).fetchall())


def _part(rows: Rows, sight: Sight, tenant: UUID | None, provider: str | None) -> Rows | None:
    assert rows
    match sight:
        case "denied":
            return None
        case "nothing":
            return Counter()
        case "tenant":
            return Counter({row: n for row, n in rows.items() if row[0] == tenant})
        case "provider":
            return Counter({row: n for row, n in rows.items() if row[1] == provider})
        case "all":
            return rows


@pytest.mark.parametrize("role", SERVICES)
def test_no_partition_of_the_audit_is_a_way_around(world: World, role: str) -> None:
    with acting(world.database, "superuser") as conn:
        names = [
            row[0]
            for row in conn.execute(
                "SELECT inhrelid::regclass::text FROM pg_inherits"
                " WHERE inhparent = 'csb_app.csb_requests_audit'::regclass"
            )
        ]
        filled = [
            name
            for name in names
            if conn.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(_qualified(name))).rowcount
        ]
    assert filled

    with acting(world.database, role, autocommit=False) as conn:
        for name in names:
            set_tenant(conn, world.ours)
            try:
                rows = conn.execute(sql.SQL("SELECT FROM {}").format(_qualified(name))).rowcount
            except psycopg.errors.InsufficientPrivilege:
                rows = 0
            assert rows == 0, name
            conn.rollback()


def _qualified(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("csb_target_accounts", "external_id"),  # opens the customer's role
        ("csb_api_keys", "digest"),
        ("csb_tenants", "created_at"),
    ],
)
def test_the_api_never_reads_this_column(world: World, table: str, column: str) -> None:
    query = sql.SQL("SELECT {} FROM csb_app.{}")
    with acting(world.database, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, world.ours)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(query.format(sql.Identifier(column), sql.Identifier(table)))


def test_a_setting_that_is_no_id_shows_nothing_but_an_error(world: World) -> None:
    with acting(world.database, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, "' OR true --")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            conn.execute("SELECT FROM csb_app.csb_requests")


@pytest.mark.parametrize("role", WORKERS)
def test_a_workers_sight_does_not_hang_on_the_tenant_setting(world: World, role: str) -> None:
    with acting(world.database, role, autocommit=False) as conn:
        everything = _rows(conn, "csb_requests")
        set_tenant(conn, world.theirs)
        assert _rows(conn, "csb_requests") == everything


def test_no_role_can_take_the_place_of_another(world: World) -> None:
    for role in SERVICES:
        with acting(world.database, role) as conn:
            for other in {*ROLES, "postgres"} - {role, "superuser"}:
                allowed = role in WORKERS and other == "csb_worker"  # sees less, not more
                statement = sql.SQL("SET ROLE {}").format(sql.Identifier(other))
                if allowed:
                    conn.execute(statement)
                    conn.execute("RESET ROLE")
                    continue
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(statement)
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(
                        sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(other))
                    )


def test_every_table_was_looked_at(world: World) -> None:
    query = """
        SELECT relname FROM pg_class
         WHERE relnamespace = 'csb_app'::regnamespace AND relkind IN ('r', 'p')
           AND NOT relispartition
    """
    with acting(world.database, "superuser") as conn:
        assert {row[0] for row in conn.execute(query)} == set(TABLES)
