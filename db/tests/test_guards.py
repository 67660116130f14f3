"""Rules that every migration to come must keep: read from the catalogue, not from a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest
from db.tests.world import ROLES, SERVICES, WORKERS, acting

from csb_core.testing import Database, migrate_module

OPEN_ON_PURPOSE: Final = {"csb_schema_migrations"}  # no tenant's, and needed before any policy


@pytest.fixture
def conn(shared: Database) -> Iterator[psycopg.Connection]:
    with acting(shared, "superuser") as conn:
        yield conn


def _column(conn: psycopg.Connection, query: str) -> list[Any]:
    return [row[0] for row in conn.execute(query).fetchall()]


def test_every_table_forces_row_level_security(conn: psycopg.Connection) -> None:
    query = """
        SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,
               EXISTS (SELECT FROM pg_attribute a
                        WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
          FROM pg_class c
         WHERE c.relnamespace = 'csb_app'::regnamespace AND c.relkind IN ('r', 'p')
    """
    with conn.transaction(force_rollback=True):
        conn.execute("SELECT csb_app.ensure_audit_partitions(20)")
        tables = conn.execute(query).fetchall()
    assert sum(has_tenant for _, _, has_tenant in tables) > 20
    assert {name for name, guarded, _ in tables if not guarded} == OPEN_ON_PURPOSE
    assert not {name for name, guarded, has_tenant in tables if has_tenant and not guarded}


def test_nothing_else_shows_rows(conn: psycopg.Connection) -> None:
    """A view or a materialised view would be read with its owner's eyes."""
    query = """
        SELECT relname FROM pg_class
         WHERE relnamespace = 'csb_app'::regnamespace AND relkind IN ('v', 'm', 'f')
    """
    assert _column(conn, query) == []


def test_a_definer_function_looks_nowhere_but_at_home(conn: psycopg.Connection) -> None:
    functions = conn.execute(
        """
        SELECT proname, prosecdef, prosqlbody IS NOT NULL,
               (SELECT split_part(s, '=', 2) FROM unnest(proconfig) s WHERE s LIKE 'search_path=%')
          FROM pg_proc
         WHERE pronamespace = 'csb_app'::regnamespace
        """
    ).fetchall()
    assert sum(definer for _, definer, _, _ in functions) > 5
    for name, definer, parsed, path in functions:
        if definer or not parsed:
            assert path in {"pg_catalog, pg_temp", "pg_catalog, csb_app, pg_temp"}, name


def test_public_holds_nothing(conn: psycopg.Connection) -> None:
    query = """
        SELECT 'function ' || p.oid::regprocedure FROM pg_proc p,
               LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a
         WHERE p.pronamespace = 'csb_app'::regnamespace AND a.grantee = 0
        UNION ALL
        SELECT 'table ' || c.relname FROM pg_class c,
               LATERAL aclexplode(c.relacl) a
         WHERE c.relnamespace = 'csb_app'::regnamespace AND a.grantee = 0
        UNION ALL
        SELECT 'column ' || attrelid::regclass || '.' || attname FROM pg_attribute,
               LATERAL aclexplode(attacl) a
         WHERE a.grantee = 0 AND attrelid IN (SELECT oid FROM pg_class
                                               WHERE relnamespace = 'csb_app'::regnamespace)
        UNION ALL
        SELECT 'schema ' || nspname || ' ' || a.privilege_type FROM pg_namespace,
               LATERAL aclexplode(nspacl) a
         WHERE a.grantee = 0 AND (nspname = 'csb_app' OR a.privilege_type = 'CREATE')
    """
    assert _column(conn, query) == []


def test_everything_belongs_to_the_owner_who_never_logs_in(conn: psycopg.Connection) -> None:
    query = """
        SELECT DISTINCT owner::regrole::text FROM (
            SELECT relowner FROM pg_class WHERE relnamespace = 'csb_app'::regnamespace
            UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'csb_app'::regnamespace
            UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'csb_app') all_owners (owner)
    """
    assert _column(conn, query) == ["csb_owner"]


def test_no_role_stands_above_the_policies(conn: psycopg.Connection) -> None:
    roles = conn.execute(
        r"""
        SELECT rolname, rolcanlogin,
               rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
          FROM pg_roles WHERE rolname LIKE 'csb\_%'
        """
    ).fetchall()
    assert {name for name, _, _ in roles} >= set(ROLES) - {"superuser"}
    # A copy that left rows out would be none; what it may write is nothing.
    assert [name for name, _, above in roles if above] == ["csb_backup_user"]
    assert {name for name, logs_in, _ in roles if not logs_in} == {"csb_owner", "csb_worker"}


def test_memberships_are_few(conn: psycopg.Connection) -> None:
    memberships = conn.execute(
        r"""
        SELECT member::regrole::text, roleid::regrole::text
          FROM pg_auth_members
         WHERE member::regrole::text LIKE 'csb\_%' OR roleid::regrole::text LIKE 'csb\_%'
        """
    ).fetchall()
    workers = {(role, "csb_worker") for role in (*WORKERS, "csb_tiny_user")}
    # Who bootstraps must be a member of the owner, to give it the schema.
    assert set(memberships) - {("postgres", "csb_owner")} == {
        ("csb_migrator", "csb_owner"),
        ("csb_backup_user", "pg_read_all_data"),
        *workers,
    }


@pytest.mark.parametrize("role", SERVICES)
def test_no_service_waits_for_ever(shared: Database, role: str) -> None:
    with acting(shared, role) as conn:
        settings = {
            name: conn.execute("SELECT current_setting(%s)::interval", (name,)).fetchall()[0][0]
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        }
        [plans] = _column(conn, "SELECT current_setting('plan_cache_mode')")
    assert all(0 < value.total_seconds() <= 60 for value in settings.values()), settings
    assert plans == ("force_generic_plan" if role in WORKERS else "auto")


def test_a_statement_that_takes_too_long_is_ended(shared: Database) -> None:
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        conn.execute("SET LOCAL statement_timeout = '50ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT pg_sleep(5)")


def test_a_database_is_for_its_roles_only(template: str, shared: Database) -> None:
    """Clones lose what is granted on a database, so this looks at the one that was bootstrapped."""
    query = """
        SELECT grantee::regrole::text, string_agg(privilege_type, ',' ORDER BY privilege_type)
          FROM pg_database, LATERAL aclexplode(datacl)
         WHERE datname = %s AND grantee <> datdba
         GROUP BY 1
    """
    with psycopg.connect(shared.superuser) as conn:
        granted = set(conn.execute(query, (template,)))
    services = ("csb_api_user", "csb_worker")
    connecting = (*services, "csb_migrator", "csb_admin_user", "csb_backup_user")
    assert granted == {("csb_owner", "CREATE"), *((role, "CONNECT") for role in connecting)}


def test_the_audit_has_room_for_a_year_in_partitions_of_a_month(conn: psycopg.Connection) -> None:
    with conn.transaction(force_rollback=True):
        bounds = _column(
            conn,
            """
            SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i
              JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'csb_app.csb_requests_audit'::regclass
            """,
        )
        assert len(bounds) == 14
        assert "DEFAULT" in bounds
        again = _column(conn, "SELECT csb_app.ensure_audit_partitions(12)")
        assert again == [0]


def test_the_providers_of_the_schema_have_roles() -> None:
    assert set(WORKERS.values()) <= set(migrate_module().providers())
