"""The functions that a service calls in one round trip, or only by its owner's right."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from db.tests.world import ROLES, SERVICES, WORKERS, World, acting, claim, draft, outcome

from csb_core import keys, requests, rescues
from csb_core.db import Connection, Pool, connection
from csb_core.models import Draft
from csb_core.requests import Accepted
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


def test_items_are_answered_in_their_order_each_for_its_tenant(
    shared: Database, api: Connection
) -> None:
    tenants = [make_tenant(shared.admin) for _ in range(3)]
    drafts = [draft(random.choice(tenants)) for _ in range(30)]
    answers = requests.insert(api, drafts)
    assert [a.correlation_id for a in answers] == [d.correlation_id for d in drafts]
    assert {(a.outcome, a.status, a.version) for a in answers} == {("created", "PENDING", 1)}
    for one in drafts:
        for tenant in tenants:
            shown = requests.get(api, tenant, one.correlation_id)
            assert (shown is not None) == (tenant == one.tenant_id)


def test_the_same_key_brings_the_same_request(shared: Database, api: Connection) -> None:
    first, second = make_tenant(shared.admin), make_tenant(shared.admin)
    one = draft(first, client_request_id="INC-1")
    again = draft(first, client_request_id="INC-1")
    changed = draft(first, client_request_id="INC-1", action="detach_policy")
    elsewhere = draft(second, client_request_id="INC-1")
    [created] = requests.insert(api, [one])

    answers = requests.insert(api, [again, changed, elsewhere, draft(first)])

    assert [a.outcome for a in answers] == ["exists", "conflict", "created", "created"]
    assert answers[0].correlation_id == answers[1].correlation_id == created.correlation_id
    assert answers[2].correlation_id == elsewhere.correlation_id
    for lost in (again, changed):
        assert requests.get(api, first, lost.correlation_id) is None


def test_the_same_key_twice_in_one_call_gives_one_request(tenant: UUID, api: Connection) -> None:
    drafts = [
        draft(tenant, client_request_id="K"),
        draft(tenant, client_request_id="K"),
        draft(tenant, client_request_id="K", action="detach_policy"),
        draft(tenant),
    ]
    answers = requests.insert(api, drafts)
    assert [a.outcome for a in answers] == ["created", "exists", "conflict", "created"]
    assert len({a.correlation_id for a in answers[:3]}) == 1


def test_a_repeated_request_tells_where_the_first_one_stands(
    tenant: UUID, shared: Database, api: Connection
) -> None:
    one = draft(tenant, client_request_id="K")
    requests.insert(api, [one])
    with acting(shared, "csb_aws_user") as conn:
        claim(conn, one)
    [answer] = requests.insert(api, [draft(tenant, client_request_id="K")])
    assert (answer.outcome, answer.status, answer.version) == ("exists", Status.IN_PROGRESS, 2)


def _at_once(pool: Pool, batches: Sequence[Sequence[Draft]]) -> list[list[Accepted]]:
    """Submit every batch from a thread of its own, all at the same moment."""
    answers: list[list[Accepted]] = []
    faults: list[BaseException] = []
    together = threading.Barrier(len(batches))

    def submit(batch: Sequence[Draft]) -> None:
        try:
            with connection(pool) as conn:
                together.wait(20)
                answers.append(requests.insert(conn, batch))
        except Exception as exc:  # noqa: BLE001 - a thread's fault is the test's
            faults.append(exc)

    threads = [threading.Thread(target=submit, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    return answers


def test_twenty_identical_requests_at_once_are_one(
    tenant: UUID, shared: Database, admin: Connection, pool_of: PoolOf
) -> None:
    pool = pool_of(shared.api, 20)
    batches = [[draft(tenant, client_request_id="SAME")] for _ in range(20)]
    answers = [answer for [answer] in _at_once(pool, batches)]
    assert sorted(a.outcome for a in answers) == ["created", *["exists"] * 19]
    assert len({a.correlation_id for a in answers}) == 1
    for table in ("csb_requests", "csb_requests_audit"):
        query = f"SELECT count(*) FROM csb_app.{table} WHERE tenant_id = %s"
        assert admin.execute(query, (tenant,)).fetchone() == (1,)


def test_batches_that_overlap_in_another_order_do_not_lock_each_other_out(
    shared: Database, admin: Connection, pool_of: PoolOf
) -> None:
    tenants = [make_tenant(shared.admin) for _ in range(3)]
    named = [(tenant, f"K-{n}") for tenant in tenants for n in range(20)]
    batches = []
    for _ in range(8):
        random.shuffle(named)
        batches.append([draft(tenant, client_request_id=name) for tenant, name in named])
    answers = [one for batch in _at_once(pool_of(shared.api, 8), batches) for one in batch]
    assert {a.outcome for a in answers} == {"created", "exists"}
    assert len({a.correlation_id for a in answers}) == len(named)
    query = "SELECT count(*) FROM csb_app.csb_requests WHERE tenant_id = ANY (%s)"
    assert admin.execute(query, (tenants,)).fetchone() == (len(named),)


def test_an_account_must_be_registered_active_and_of_the_same_tenant_and_provider(
    shared: Database, api: Connection, admin: Connection
) -> None:
    with_one, without = make_tenant(shared.admin), make_tenant(shared.admin, account_id=None)
    disabled = make_tenant(shared.admin)
    admin.execute(
        "UPDATE csb_app.csb_target_accounts SET status = 'disabled' WHERE tenant_id = %s",
        (disabled,),
    )
    drafts = {
        "fine": draft(with_one),
        "unknown": draft(with_one, account_id="999999999999"),
        "anothers": draft(without),
        "disabled": draft(disabled),
        "anothers provider": draft(with_one, cloud_provider="sandbox"),
        "none asked": draft(without, "sandbox"),
    }
    answers = dict(zip(drafts, requests.insert(api, list(drafts.values())), strict=True))
    created = {name for name, a in answers.items() if a.outcome == "created"}
    assert created == {"fine", "none asked"}
    refused = [a for name, a in answers.items() if name not in created]
    assert {(a.outcome, a.correlation_id) for a in refused} == {("account_not_registered", None)}


def test_an_item_that_is_not_created_harms_no_other(tenant: UUID, api: Connection) -> None:
    requests.insert(api, [draft(tenant, client_request_id="K")])
    drafts = [
        draft(tenant),
        draft(tenant, account_id="999999999999"),
        draft(tenant, client_request_id="K", action="detach_policy"),
        draft(tenant, client_request_id="K"),
        draft(tenant, client_request_id="L"),
    ]
    outcomes = [answer.outcome for answer in requests.insert(api, drafts)]
    assert outcomes == ["created", "account_not_registered", "conflict", "exists", "created"]


def test_an_item_that_breaks_a_constraint_leaves_the_whole_call_unwritten(
    tenant: UUID, api: Connection
) -> None:
    good, bad = draft(tenant), draft(tenant, client_request_id="x" * 201)
    with pytest.raises(psycopg.errors.CheckViolation):
        requests.insert(api, [good, bad])
    assert requests.get(api, tenant, good.correlation_id) is None
    assert requests.insert(api, [good])[0].outcome == "created"  # so each can be tried alone


def test_operators_submit_replays_and_workers_submit_nothing(
    world: World, admin: Connection
) -> None:
    failed = world.of("aws", Status.FAILED)
    [replayed] = requests.insert(admin, [draft(world.ours, replay_of=failed)])
    assert replayed.outcome == "created"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        requests.insert(admin, [draft(world.ours)])
    for role in WORKERS:
        with (
            acting(world.database, role) as conn,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            requests.insert(conn, [draft(world.ours)])


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
}


def test_each_function_is_for_whom_it_is_for(world: World) -> None:
    allowed: dict[str, set[str]] = {name: set() for name in FUNCTIONS}
    for role in SERVICES:
        with acting(world.database, role) as conn:
            for call in FUNCTIONS:
                if outcome(conn, f"SELECT * FROM csb_app.{call}") != "denied":
                    allowed[call].add(role)
    assert allowed == FUNCTIONS


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
