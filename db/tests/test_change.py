"""What each role may write: every verb on every table, then column by column, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest
from db.tests.test_sight import TABLES
from db.tests.world import (
    PROVIDERS,
    ROLES,
    SERVICES,
    WORKERS,
    World,
    acting,
    outcome,
    set_tenant,
)
from psycopg import sql

from csb_core.db import Connection
from csb_core.ids import new_id
from csb_core.states import FINAL, Status

VERBS: Final[Mapping[str, str]] = {
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {column} = {column}",
    "DELETE": "DELETE FROM {table}",
    "TRUNCATE": "TRUNCATE {table}",
}

#: The verbs for which a role holds a grant, table by table; all else must be denied.
GRANTED: Final[Mapping[str, Mapping[str, set[str]]]] = {
    "csb_api_user": {
        "csb_requests": {"INSERT", "UPDATE"},
        "csb_utils": {"INSERT", "UPDATE"},
        "csb_util_versions": {"INSERT"},
        "csb_util_shares": {"INSERT", "UPDATE", "DELETE"},
        "csb_util_rules": {"INSERT", "UPDATE", "DELETE"},
    },
    "csb_aws_user": {"csb_requests": {"UPDATE"}, "csb_requests_ref": {"INSERT"}},
    "csb_sandbox_user": {"csb_requests": {"UPDATE"}, "csb_requests_ref": {"INSERT"}},
    "csb_admin_user": {
        "csb_tenants": {"INSERT", "UPDATE"},
        "csb_api_keys": {"INSERT", "UPDATE"},
        "csb_target_accounts": {"INSERT", "UPDATE"},
        "csb_requests": {"INSERT"},
    },
}

A_MOVE: Final = {"status", "version", "moved_by", "updated_at", "finished_at"}
AN_ATTEMPT: Final = {
    *("attempt", "retries", "losses", "lone_losses", "alone", "started_at", "rung_at"),
    *("lease_token", "lease_owner", "lease_expires_at", "available_at"),
    *("checkpoint", "result", "changed", "error"),
}
CREATION: Final = {
    *("correlation_id", "tenant_id", "cloud_provider", "action", "account_id", "principal_type"),
    *("principal_name", "payload", "digest", "client_request_id", "requested_by", "moved_by"),
    *("request_id", "traceparent", "replay_of", "max_attempts"),
    *("util_id", "util_version", "util_digest", "util_limits"),
}
#: role -> the columns of a request that it updates, and those that it inserts
COLUMNS: Final[Mapping[str, tuple[set[str], set[str]]]] = {
    "csb_api_user": (A_MOVE, CREATION),
    "csb_aws_user": (A_MOVE | AN_ATTEMPT, set()),
    "csb_sandbox_user": (A_MOVE | AN_ATTEMPT, set()),
    "csb_admin_user": (set(), CREATION),
}


@pytest.mark.parametrize("role", SERVICES)
def test_every_other_verb_on_every_table_is_denied(world: World, role: str) -> None:
    denied: dict[str, set[str]] = {}
    with acting(world.database, role, autocommit=False) as conn:
        for table in [*TABLES, "csb_requests_audit_default"]:
            answers = {verb: outcome(conn, _statement(conn, verb, table)) for verb in VERBS}
            denied[table] = {verb for verb, answer in answers.items() if answer == "denied"}
    granted = GRANTED[role]
    assert denied == {table: set(VERBS) - granted.get(table, set()) for table in denied}


def _statement(conn: Connection, verb: str, table: str) -> str:
    columns = _columns(conn, table)
    held = [c for c in columns if _holds(conn, "UPDATE", table, c)]
    name = sql.Identifier("csb_app", table)
    text = sql.SQL(VERBS[verb]).format(table=name, column=sql.Identifier([*held, *columns][0]))
    return text.as_string(conn)


def _columns(conn: Connection, table: str) -> list[str]:
    rows = conn.execute(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND attidentity = ''",
        (f"csb_app.{table}",),
    )
    return [row[0] for row in rows]


def _holds(conn: Connection, verb: str, table: str, column: str) -> bool:
    query = "SELECT has_column_privilege(to_regclass(%s), %s, %s)"
    row = conn.execute(query, (f"csb_app.{table}", column, verb)).fetchone()
    return row == (True,)


@pytest.mark.parametrize("role", SERVICES)
def test_a_role_writes_its_columns_of_a_request_and_no_other(world: World, role: str) -> None:
    waiting = world.of(WORKERS.get(role, "aws"), Status.PENDING)
    updated, inserted = set(), set()
    with acting(world.database, role, autocommit=False) as conn:
        set_tenant(conn, world.ours)
        for column in _columns(conn, "csb_requests"):
            update, insert = (
                sql.SQL(text).format(sql.Identifier(column)).as_string(conn)
                for text in (
                    "UPDATE csb_app.csb_requests SET {0} = {0} WHERE correlation_id = %s",
                    "INSERT INTO csb_app.csb_requests ({}) VALUES (NULL)",
                )
            )
            if outcome(conn, update, waiting) != "denied":
                updated.add(column)
            if outcome(conn, insert) != "denied":
                inserted.add(column)
    assert (updated, inserted) == COLUMNS[role]


INSERT: Final = """
    INSERT INTO csb_app.csb_requests (correlation_id, tenant_id, cloud_provider, action, payload,
                                      digest, requested_by, moved_by, request_id, replay_of)
    VALUES (%s, %s, 'aws', 'attach_policy', '{}', 'd', 'k', 'k', 'r', %s)
"""


@pytest.mark.parametrize("setting", ["unset", "", "ours", "theirs"])
def test_the_api_inserts_for_the_tenant_of_its_transaction_only(world: World, setting: str) -> None:
    answers = {}
    with acting(world.database, "csb_api_user", autocommit=False) as conn:
        for tenant in ("ours", "theirs"):
            if setting != "unset":
                set_tenant(conn, getattr(world, setting, setting))
            answers[tenant] = outcome(conn, INSERT, new_id(), getattr(world, tenant), None)
            conn.rollback()
    assert answers == {
        tenant: "1 rows" if tenant == setting else "hidden" for tenant in ("ours", "theirs")
    }


def test_an_operator_inserts_replays_only(world: World) -> None:
    failed = world.of("sandbox", Status.FAILED)
    with acting(world.database, "csb_admin_user", autocommit=False) as conn:
        assert outcome(conn, INSERT, new_id(), world.ours, None) == "hidden"
        assert outcome(conn, INSERT, new_id(), world.ours, failed) == "1 rows"


CANCEL: Final = """
    UPDATE csb_app.csb_requests
       SET status = 'CANCELLED', version = version + 1, moved_by = 'k', finished_at = now()
     WHERE correlation_id = ANY (%s)
"""


def test_the_api_cancels_what_waits_and_is_its_tenants(world: World) -> None:
    everything = list(world.requests.values())
    with acting(world.database, "csb_api_user", autocommit=False) as conn:
        assert outcome(conn, CANCEL, everything) == "0 rows"
        set_tenant(conn, world.ours)
        assert outcome(conn, CANCEL, everything) == f"{len(PROVIDERS)} rows"
        theirs = [i for (tenant, _, _), i in world.requests.items() if tenant == world.theirs]
        assert outcome(conn, CANCEL, theirs) == "0 rows"
        # Its own row, and yet no other change than to cancel it:
        waiting = world.of("aws", Status.PENDING)
        for change in ("version = version + 1", "status = 'PENDING'", "moved_by = 'somebody'"):
            text = f"UPDATE csb_app.csb_requests SET {change} WHERE correlation_id = %s"
            assert outcome(conn, text, waiting) == "hidden"


def test_a_blind_update_reaches_no_further(world: World) -> None:
    """It reads no column, so no SELECT policy stands before it: the UPDATE policy must suffice."""
    blind = """
        UPDATE csb_app.csb_requests
           SET status = 'CANCELLED', version = 2, moved_by = 'k', finished_at = now()
    """
    waiting = "SELECT FROM csb_app.csb_requests WHERE status = 'PENDING'"
    with acting(world.database, "csb_api_user", autocommit=False) as conn:
        assert outcome(conn, blind) == "0 rows"
        set_tenant(conn, world.ours)
        assert outcome(conn, blind) == outcome(conn, waiting) != "0 rows"


@pytest.mark.parametrize("role", WORKERS)
def test_a_worker_updates_open_rows_of_its_provider_only(world: World, role: str) -> None:
    touched = set()
    with acting(world.database, role, autocommit=False) as conn:
        blind = outcome(conn, "UPDATE csb_app.csb_requests SET losses = 1")
        waiting = "SELECT FROM csb_app.csb_requests WHERE status IN ('PENDING', 'IN_PROGRESS')"
        assert blind == outcome(conn, waiting)
        for key, correlation_id in world.requests.items():
            text = "UPDATE csb_app.csb_requests SET losses = losses + 1 WHERE correlation_id = %s"
            if outcome(conn, text, correlation_id) == "1 rows":
                touched.add(key)
    assert touched == {
        (tenant, provider, status)
        for tenant, provider, status in world.requests
        if provider == WORKERS[role] and status not in FINAL
    }


REF: Final = """
    INSERT INTO csb_app.csb_requests_ref (correlation_id, tenant_id, cloud_provider, attempt, type,
                                          value, service, operation)
    VALUES (%s, %s, %s, 1, 'request_id', 'r', 'iam', 'X')
"""


@pytest.mark.parametrize("role", WORKERS)
def test_a_worker_names_references_of_its_own_requests_only(world: World, role: str) -> None:
    own, [other] = WORKERS[role], set(PROVIDERS) - {WORKERS[role]}
    ours, theirs = world.of(own, Status.IN_PROGRESS), world.of(other, Status.IN_PROGRESS)
    tries: dict[tuple[UUID, UUID, str], str] = {
        (ours, world.ours, own): "1 rows",
        (ours, world.theirs, own): "hidden",  # another tenant than the request's
        (ours, world.ours, other): "hidden",
        (theirs, world.ours, own): "hidden",  # another provider's request
        (theirs, world.ours, other): "hidden",
        (uuid4(), world.ours, own): "hidden",  # no request at all
    }
    with acting(world.database, role, autocommit=False) as conn:
        assert {one: outcome(conn, REF, *one) for one in tries} == tries


@pytest.mark.parametrize("role", ["csb_owner", "csb_migrator", "csb_worker", "csb_backup_user"])
def test_the_roles_that_serve_nobody_change_no_request(world: World, role: str) -> None:
    with acting(world.database, role, autocommit=False) as conn:
        set_tenant(conn, world.ours)
        answers: Iterable[str] = (
            outcome(conn, "UPDATE csb_app.csb_requests SET losses = 1"),
            outcome(conn, "DELETE FROM csb_app.csb_requests"),
            outcome(conn, INSERT, new_id(), world.ours, None),
        )
        assert set(answers) <= {"denied", "hidden", "0 rows"}


def test_every_role_was_asked(world: World) -> None:
    query = r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'csb\_%'"
    with psycopg.connect(world.database.superuser) as conn:
        known = {row[0] for row in conn.execute(query)}
    assert known - {"csb_tiny_user"} == set(ROLES) - {"superuser"}
