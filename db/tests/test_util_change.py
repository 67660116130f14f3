"""What may be written of a util, and by whom: columns, rows, and what stays as it was written."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest
from db.tests.world import acting, outcome, set_tenant

from csb_core import util_shares
from csb_core.db import Connection
from csb_core.testing import Database, as_tenant, make_tenant, make_util
from csb_core.util_models import Permission

#: table -> the columns that the API updates, and those that it inserts; nobody else writes any
COLUMNS: Final[dict[str, tuple[set[str], set[str]]]] = {
    "csb_utils": (
        {"name", "description", "category", "tags", "status"}
        | {"version", "active_version", "updated_by"},
        {"util_id", "tenant_id", "owner", "name", "description", "kind", "language", "category"}
        | {"tags", "status", "active_version", "created_by", "updated_by"},
    ),
    "csb_util_versions": (
        set(),
        {"util_id", "version", "tenant_id", "digest", "label", "code", "parameters"}
        | {"execution_config", "test_cases", "validation", "rollback_of", "created_by"},
    ),
    "csb_util_shares": (
        {"permission", "created_by"},
        {"share_id", "util_id", "tenant_id", "grantee_tenant_id", "grantee_key_id"}
        | {"permission", "created_by"},
    ),
    "csb_util_rules": (
        {"severity", "kind", "pattern", "message", "created_by"},
        {"tenant_id", "rule_id", "severity", "kind", "pattern", "message", "created_by"},
    ),
}


@pytest.mark.parametrize("table", COLUMNS)
def test_the_api_writes_these_columns_and_nobody_else_any(shared: Database, table: str) -> None:
    query = """
        SELECT a.grantee::regrole::text, a.privilege_type, t.attname::text
          FROM pg_attribute t, LATERAL aclexplode(t.attacl) a
         WHERE t.attrelid = to_regclass(%(table)s) AND a.privilege_type IN ('INSERT', 'UPDATE')
        UNION ALL
        SELECT a.grantee::regrole::text, a.privilege_type, 'all of it'
          FROM pg_class c, LATERAL aclexplode(c.relacl) a
         WHERE c.oid = to_regclass(%(table)s) AND a.grantee <> c.relowner
           AND a.privilege_type NOT IN ('SELECT', 'DELETE')
    """
    with acting(shared, "superuser") as conn:
        granted = set(conn.execute(query, {"table": f"csb_app.{table}"}))
    updated, inserted = COLUMNS[table]
    assert granted == {
        *(("csb_api_user", "UPDATE", column) for column in updated),
        *(("csb_api_user", "INSERT", column) for column in inserted),
    }


@pytest.fixture
def grantee(shared: Database) -> UUID:
    return make_tenant(shared.admin)


@pytest.fixture
def util(shared: Database, tenant: UUID) -> UUID:
    return make_util(shared.api, tenant)


def _share(database: Database, util: UUID, grantee: UUID, permission: Permission) -> None:
    with acting(database, "superuser") as conn:
        [(owner,)] = conn.execute(
            "SELECT tenant_id FROM csb_app.csb_utils WHERE util_id = %s", (util,)
        )
    with as_tenant(database.api, owner) as conn:
        util_shares.share(conn, util, grantee, permission=permission, by="k")


RENAME: Final = "UPDATE csb_app.csb_utils SET name = 'other', updated_by = 'k' WHERE util_id = %s"
VERSION: Final = """
    INSERT INTO csb_app.csb_util_versions (util_id, version, tenant_id, digest, code, parameters,
                                           execution_config, validation, created_by)
    VALUES (%s, 2, %s, repeat('a', 64), 'x', '{}', '{}',
            '{"is_valid": true, "security_score": 100}', 'k')
"""


@pytest.mark.parametrize(
    ("permission", "changes"), [(None, False), ("read", False), ("execute", False), ("edit", True)]
)
def test_only_a_share_for_edit_lets_another_tenant_change_a_util(
    shared: Database,
    tenant: UUID,
    grantee: UUID,
    util: UUID,
    permission: Permission | None,
    changes: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    if permission:
        _share(shared, util, grantee, permission)
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, grantee)
        assert outcome(conn, RENAME, util) == ("1 rows" if changes else "0 rows")
        assert outcome(conn, VERSION, util, tenant) == ("1 rows" if changes else "hidden")


def test_a_grantee_that_edits_cannot_make_the_util_its_own(
    shared: Database, tenant: UUID, grantee: UUID, util: UUID
) -> None:
    _share(shared, util, grantee, "edit")
    other = make_util(shared.api, tenant)
    tries = {
        # to delete it, to bring it back to life elsewhere, to give its rows another owner
        "UPDATE csb_app.csb_utils SET status = 'deleted' WHERE util_id = %(util)s": "hidden",
        "UPDATE csb_app.csb_utils SET tenant_id = %(grantee)s WHERE util_id = %(util)s": "denied",
        "UPDATE csb_app.csb_utils SET owner = 'k' WHERE util_id = %(util)s": "denied",
        "UPDATE csb_app.csb_utils SET revision = 1 WHERE util_id = %(util)s": "denied",
        "UPDATE csb_app.csb_utils SET kind = 'script' WHERE util_id = %(util)s": "denied",
        # to share it on, or to raise its own share
        """INSERT INTO csb_app.csb_util_shares (share_id, util_id, tenant_id, grantee_tenant_id,
                                                permission, created_by)
           SELECT gen_random_uuid(), %(util)s, %(tenant)s, tenant_id, 'edit', 'k'
             FROM csb_app.csb_tenants""": "hidden",
        """INSERT INTO csb_app.csb_util_shares (share_id, util_id, tenant_id, grantee_tenant_id,
                                                permission, created_by)
           VALUES (gen_random_uuid(), %(util)s, %(grantee)s, %(tenant)s, 'edit', 'k')""": (
            "csb_util_shares_util_id_tenant_id_fkey"
        ),
        "UPDATE csb_app.csb_util_shares SET permission = 'edit'": "0 rows",
        "DELETE FROM csb_app.csb_util_shares": "0 rows",
        # to reach the owner's other util by the way
        "UPDATE csb_app.csb_utils SET name = 'x' WHERE util_id = %(other)s": "0 rows",
    }
    values = {"util": util, "tenant": tenant, "grantee": grantee, "other": other}
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, grantee)
        assert {one: _outcome(conn, one, values) for one in tries} == tries
        # versions: of the other util, and of this one under its own name
        assert outcome(conn, VERSION, other, tenant) == "hidden"
        forged = outcome(conn, VERSION, util, grantee)
    assert forged == "csb_util_versions_util_id_tenant_id_fkey"


def _outcome(conn: Connection, statement: str, values: dict[str, object]) -> str:
    """As `outcome`, with named values; the constraint's name when one was violated."""
    return outcome(conn, psycopg.ClientCursor(conn).mogrify(statement, values).replace("%", "%%"))


def test_the_blind_update_of_a_stranger_reaches_nothing(
    shared: Database, grantee: UUID, util: UUID
) -> None:
    """It reads no column, so that the UPDATE policy stands alone before it."""
    assert util
    blind = "UPDATE csb_app.csb_utils SET updated_by = 'k'"
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        assert outcome(conn, blind) == "0 rows"
        set_tenant(conn, grantee)
        for statement in (
            blind,
            "UPDATE csb_app.csb_util_shares SET permission = 'edit'",
            "DELETE FROM csb_app.csb_util_shares",
            "UPDATE csb_app.csb_util_rules SET message = ''",
            "DELETE FROM csb_app.csb_util_rules",
        ):
            assert outcome(conn, statement) == "0 rows"


def test_a_tenant_inserts_for_itself_alone(shared: Database, tenant: UUID, grantee: UUID) -> None:
    statement = """
        INSERT INTO csb_app.csb_util_rules (tenant_id, rule_id, severity, kind, pattern, message,
                                            created_by)
        VALUES (%s, 'R', 'error', 'k', 'p', '', 'k')
    """
    head = """
        INSERT INTO csb_app.csb_utils (util_id, tenant_id, owner, name, kind, status, created_by,
                                       updated_by)
        VALUES (gen_random_uuid(), %s, 'k', 'n', 'script', %s, 'k', 'k')
    """
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, tenant)
        assert outcome(conn, statement, tenant) == "1 rows"
        assert outcome(conn, statement, grantee) == "hidden"
        assert outcome(conn, head, grantee, "inactive") == "hidden"
        assert outcome(conn, head, tenant, "deleted") == "hidden"
        # Its version is missing, and the statement is over.
        assert outcome(conn, head, tenant, "inactive") == "csb_utils_util_id_version_fkey"
        assert outcome(conn, head, tenant, "active") == "csb_utils_active"


@pytest.mark.parametrize("role", ["superuser", "csb_owner"])
@pytest.mark.parametrize("verb", ["UPDATE", "DELETE", "TRUNCATE"])
def test_a_version_stays_as_it_was_written(
    shared: Database, util: UUID, role: str, verb: str
) -> None:
    assert util
    statement = {
        "UPDATE": "UPDATE csb_app.csb_util_versions SET code = 'x'",
        "DELETE": "DELETE FROM csb_app.csb_util_versions",
        "TRUNCATE": "TRUNCATE csb_app.csb_util_versions CASCADE",
    }[verb]
    with acting(shared, role) as conn:
        assert outcome(conn, statement) == "append-only"


def test_every_change_of_a_head_raises_its_revision_and_a_deleted_one_takes_none(
    shared: Database, util: UUID
) -> None:
    look = "SELECT revision, updated_at FROM csb_app.csb_utils WHERE util_id = %s"
    with acting(shared, "superuser") as conn:
        before = conn.execute(look, (util,)).fetchall()[0]
        conn.execute(
            "UPDATE csb_app.csb_utils SET revision = 1, name = 'x' WHERE util_id = %s", (util,)
        )
        after = conn.execute(look, (util,)).fetchall()[0]
        assert after[0] == before[0] + 1
        assert after[1] > before[1]
        conn.execute("UPDATE csb_app.csb_utils SET status = 'deleted' WHERE util_id = %s", (util,))
        assert outcome(conn, RENAME, util) == "denied"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("util_id", "gen_random_uuid()"),
        ("util_id, util_version, util_digest", "gen_random_uuid(), 1, 'd'"),
        ("util_version", "1"),
        ("util_digest", "'d'"),
        ("util_limits", "'{}'"),
    ],
)
@pytest.mark.parametrize("provider", ["aws", "sandbox"])
def test_a_request_pins_a_util_whole_or_not_at_all(
    shared: Database, tenant: UUID, column: str, value: str, provider: str
) -> None:
    statement = f"""
        INSERT INTO csb_app.csb_requests (correlation_id, tenant_id, cloud_provider, action,
                    payload, digest, requested_by, moved_by, request_id, {column})
        VALUES (gen_random_uuid(), %s, %s, 'a', '{{}}', 'd', 'k', 'k', 'r', {value})
    """
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, tenant)
        assert outcome(conn, statement, tenant, provider) == "csb_requests_pinned"


def test_only_the_sandbox_runs_utils(shared: Database, tenant: UUID) -> None:
    statement = """
        INSERT INTO csb_app.csb_requests (correlation_id, tenant_id, cloud_provider, action,
                    payload, digest, requested_by, moved_by, request_id, util_id, util_version,
                    util_digest, util_limits)
        VALUES (gen_random_uuid(), %s, %s, 'a', '{}', 'd', 'k', 'k', 'r', %s, 1, 'd', '{}')
    """
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, tenant)
        assert outcome(conn, statement, tenant, "sandbox", uuid4()) == "1 rows"
        assert outcome(conn, statement, tenant, "aws", uuid4()) == "csb_requests_pinned"
