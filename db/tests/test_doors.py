"""The functions that a service calls in one round trip, or only by its owner's right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from db.tests.world import ROLES, SERVICES, WORKERS, World, acting, outcome

from csb_core import keys, rescues
from csb_core.db import Connection, Pool
from csb_core.states import Status
from csb_core.testing import Database, make_api_key, make_tenant

PoolOf = Callable[..., Pool]


@pytest.fixture
def api(shared: Database) -> Iterator[Connection]:
    with acting(shared, "csb_api_user") as conn:
        yield conn


@pytest.fixture
def admin(shared: Database) -> Iterator[Connection]:
    with acting(shared, "csb_admin_user") as conn:
        yield conn


FIND = "SELECT tenant_id, key_id, scopes FROM csb_app.find_api_key(%s)"


def _found(conn: Connection, token: str) -> list[tuple[Any, ...]]:
    return conn.execute(FIND, (keys.token_digest(token),)).fetchall()


def test_a_key_is_found_by_its_digest_alone(shared: Database, api: Connection) -> None:
    first, second = make_tenant(shared.admin), make_tenant(shared.admin)
    token = make_api_key(shared.admin, first, "requests:read")
    make_api_key(shared.admin, second)
    assert _found(api, token) == [(first, keys.key_id_of(token), ["requests:read"])]
    assert _found(api, token[:-1] + ("a" if token[-1] != "a" else "b")) == []
    assert api.execute(FIND, (b"",)).fetchall() == []
    assert api.execute(FIND, (None,)).fetchall() == []


@pytest.mark.parametrize(
    ("table", "change", "opens"),
    [
        ("csb_api_keys", "revoked_at = now()", False),
        ("csb_api_keys", "revoked_at = now() + interval '1 day'", False),
        ("csb_api_keys", "expires_at = now()", False),
        ("csb_api_keys", "expires_at = now() - interval '1 second'", False),
        ("csb_api_keys", "expires_at = now() + interval '1 hour'", True),
        ("csb_tenants", "status = 'suspended'", False),
        ("csb_tenants", "name = 'Another'", True),
    ],
)
def test_a_key_that_was_ended_in_any_way_is_not_found(
    tenant: UUID,
    shared: Database,
    api: Connection,
    admin: Connection,
    table: str,
    change: str,
    opens: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    token = make_api_key(shared.admin, tenant)
    assert len(_found(api, token)) == 1
    admin.execute(f"UPDATE csb_app.{table} SET {change} WHERE tenant_id = %s", (tenant,))
    assert len(_found(api, token)) == opens


def test_touching_a_key_writes_when_it_was_used_and_nothing_else(
    tenant: UUID, shared: Database, api: Connection, admin: Connection
) -> None:
    used, idle = (make_api_key(shared.admin, tenant) for _ in range(2))
    query = """
        SELECT key_id, last_used_at IS NOT NULL, to_jsonb(k) - 'last_used_at'
          FROM csb_app.csb_api_keys k
         WHERE tenant_id = %s
    """
    before = {row[0]: row for row in admin.execute(query, (tenant,))}
    traces = admin.execute("SELECT count(*) FROM csb_app.csb_control_audit").fetchone()

    api.execute("SELECT csb_app.touch_api_keys(%s)", ([keys.key_id_of(used), "nobody000000"],))

    after = {row[0]: row for row in admin.execute(query, (tenant,))}
    assert {key for key, row in after.items() if row[1]} == {keys.key_id_of(used)}
    assert keys.key_id_of(idle) in after
    assert {key: row[2] for key, row in after.items()} == {k: row[2] for k, row in before.items()}
    assert admin.execute("SELECT count(*) FROM csb_app.csb_control_audit").fetchone() == traces


#: function -> the service roles that may call it; the arguments are harmless
FUNCTIONS = {
    "find_api_key(''::bytea)": {"csb_api_user"},
    "touch_api_keys('{}')": {"csb_api_user"},
    "get_request(gen_random_uuid(), gen_random_uuid())": {"csb_api_user"},
    "submit('[]')": {"csb_api_user", "csb_admin_user"},
    "report_stale_write(gen_random_uuid(), 1, 'w', NULL)": set(WORKERS),
    "report_security_event('message_unknown', NULL, 'w', NULL)": set(WORKERS),
    "ensure_audit_partitions(0)": {"csb_admin_user"},
    "note_operation('e', NULL, 's', '{}')": {"csb_admin_user"},
    "delete_ended_requests(1)": {"csb_admin_user"},
    "audit_partitions()": {"csb_admin_user"},
    "drop_audit_partition()": {"csb_admin_user"},
    "default_retention_days()": {"csb_admin_user"},
    "kept_since(gen_random_uuid())": {"csb_admin_user"},
    "first_id_of(now())": {"csb_admin_user"},
    "keys_of(gen_random_uuid(), 'k')": {"csb_api_user"},
    "current_keys()": {"csb_api_user"},
    "shared_utils('read')": {"csb_api_user"},
    "access_to(gen_random_uuid(), gen_random_uuid())": {"csb_api_user"},
    "admit_util(gen_random_uuid(), 'k', 'run_util', gen_random_uuid(), 1, '', true)": {
        "csb_api_user",
        "csb_admin_user",
    },
    "claimed_util(gen_random_uuid(), 1)": set(WORKERS),
    "schema_version()": set(SERVICES),
}


def test_each_function_is_for_whom_it_is_for(world: World) -> None:
    allowed: dict[str, set[str]] = {name: set() for name in FUNCTIONS}
    for role in SERVICES:
        with acting(world.database, role) as conn:
            for call in FUNCTIONS:
                if outcome(conn, f"SELECT * FROM csb_app.{call}") != "denied":
                    allowed[call].add(role)
    assert allowed == FUNCTIONS


def test_every_function_was_tried(world: World) -> None:
    query = """
        SELECT p.proname
          FROM pg_proc p, LATERAL aclexplode(p.proacl) a
         WHERE p.pronamespace = 'csb_app'::regnamespace
           AND a.grantee <> p.proowner
    """
    told = {"acting_role", "acting_mover", "current_tenant", "provider_of"}  # for everybody
    with acting(world.database, "superuser") as conn:
        granted = {row[0] for row in conn.execute(query)}
    assert granted - told == {call.partition("(")[0] for call in FUNCTIONS}


def _stale_writes(world: World, correlation_id: UUID) -> list[tuple[Any, ...]]:
    with acting(world.database, "superuser") as conn:
        return conn.execute(
            """
            SELECT event, from_status, to_status, mover, tenant_id, lease_token, actor, db_role
              FROM csb_app.csb_requests_audit
             WHERE correlation_id = %s AND event NOT IN ('created', 'moved')
            """,
            (correlation_id,),
        ).fetchall()


@pytest.mark.parametrize("role", WORKERS)
def test_a_stale_write_is_reported_by_its_provider_and_is_no_move(world: World, role: str) -> None:
    for (tenant, provider, status), correlation_id in world.requests.items():
        if status is not Status.SUCCESS:
            continue
        before = _stale_writes(world, correlation_id)
        with acting(world.database, role) as conn:
            rescues.report_stale_write(conn, correlation_id, token=9, worker="late", detail={})
        added = _stale_writes(world, correlation_id)[len(before) :]
        told = ("stale_write_rejected", None, None, None, tenant, 9, "late", role)
        assert added == ([told] if provider == WORKERS[role] else [])


def test_a_report_tells_its_true_writer_and_says_only_what_it_may(world: World) -> None:
    subject = world.of("sandbox", Status.PENDING, world.theirs)
    with acting(world.database, "csb_aws_user") as conn:
        rescues.report_security_event(
            conn, "message_forged", subject, worker="csb_sandbox_user", detail={"a": 1}
        )
        for forged in ("moved", "created", "stale_write_rejected", "anything"):
            with pytest.raises(psycopg.errors.CheckViolation):
                rescues.report_security_event(
                    conn,
                    forged,  # type: ignore[arg-type]
                    subject,
                    worker="w",
                    detail={},
                )
    with acting(world.database, "superuser") as conn:
        [row] = conn.execute(
            """
            SELECT event, tenant_id, actor, db_role, detail
              FROM csb_app.csb_security_events
             WHERE correlation_id = %s
            """,
            (subject,),
        ).fetchall()
    assert row == ("message_forged", world.theirs, "csb_sandbox_user", "csb_aws_user", {"a": 1})


def test_a_report_about_nothing_writes_nothing(world: World) -> None:
    unknown = uuid4()
    with acting(world.database, "csb_aws_user") as conn:
        rescues.report_stale_write(conn, unknown, token=1, worker="w", detail={})
    assert _stale_writes(world, unknown) == []


def test_the_group_of_the_workers_cannot_report(world: World) -> None:
    subject = world.of("aws", Status.PENDING)
    assert "csb_worker" in ROLES
    with acting(world.database, "csb_worker") as conn:
        rescues.report_stale_write(conn, subject, token=1, worker="w", detail={})
    assert _stale_writes(world, subject) == []
