"""Every pair of states for every role: the database agrees with the table of moves."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import pytest
from db.tests.world import ROLES, WORKERS, World, acting, outcome, set_tenant

from csb_core.db import Connection
from csb_core.states import FINAL, MOVES, Mover, Status

MOVER: Final = {"csb_api_user": Mover.API, **dict.fromkeys(WORKERS, Mover.WORKER)}
PAIRS: Final = [(origin, target) for origin in Status for target in Status]
NO_MOVE: Final = "csb_move_is_allowed"


def _move(role: str, target: Status, version: str = "version + 1") -> str:
    """An UPDATE that makes this move and breaks no other rule; only the move is in question."""
    ends = "now()" if target in FINAL else "NULL"
    lease = ", changed = NULL, lease_expires_at = " + (
        "now()" if target is Status.IN_PROGRESS else "NULL"
    )
    return f"""
        UPDATE csb_app.csb_requests
           SET status = '{target}', version = {version}, moved_by = 'walker', finished_at = {ends}
               {"" if role == "csb_api_user" else lease}
         WHERE correlation_id = %s
    """


@pytest.mark.parametrize("role", ROLES)
def test_the_database_allows_the_moves_of_the_table_and_no_other(world: World, role: str) -> None:
    provider = WORKERS.get(role, "aws")
    allowed = {}
    with acting(world.database, role, autocommit=False) as conn:
        for origin, target in PAIRS:
            set_tenant(conn, world.ours)
            answer = outcome(conn, _move(role, target), world.of(provider, origin))
            if answer == "1 rows":
                allowed[origin, target] = MOVER.get(role)
            else:
                assert answer in {"denied", "hidden", "0 rows", NO_MOVE}, (origin, target)
    assert allowed == {
        pair: mover for pair, (mover, _) in MOVES.items() if mover is MOVER.get(role)
    }


@pytest.mark.parametrize("role", WORKERS)
def test_it_is_the_check_that_refuses_a_workers_other_moves(world: World, role: str) -> None:
    with acting(world.database, role, autocommit=False) as conn:
        for origin, target in PAIRS:
            if origin in FINAL or MOVES.get((origin, target), (None,))[0] is Mover.WORKER:
                continue
            subject = world.of(WORKERS[role], origin)
            assert outcome(conn, _move(role, target), subject) == NO_MOVE, (origin, target)


def test_not_even_the_superuser_moves_a_request(world: World) -> None:
    with acting(world.database, "superuser", autocommit=False) as conn:
        for origin, target in PAIRS:
            answer = outcome(conn, _move("superuser", target), world.of("aws", origin))
            assert answer == NO_MOVE, (origin, target)


@pytest.mark.parametrize("pair", MOVES)
def test_a_move_raises_the_version_by_exactly_one(
    world: World, pair: tuple[Status, Status]
) -> None:
    origin, target = pair
    role = "csb_api_user" if MOVES[pair][0] is Mover.API else "csb_aws_user"
    with acting(world.database, role, autocommit=False) as conn:
        set_tenant(conn, world.ours)
        for version in ("version", "version - 1", "version + 2", "1000000", "NULL"):
            answer = outcome(conn, _move(role, target, version), world.of("aws", origin))
            assert answer == ("NotNullViolation" if version == "NULL" else NO_MOVE), version


@pytest.mark.parametrize("version", ["version - 1", "version + 1", "0"])
@pytest.mark.parametrize("status", sorted(set(Status) - FINAL))
def test_nothing_but_a_move_changes_the_version(world: World, status: Status, version: str) -> None:
    with acting(world.database, "csb_aws_user", autocommit=False) as conn:
        text = f"UPDATE csb_app.csb_requests SET version = {version} WHERE correlation_id = %s"
        assert outcome(conn, text, world.of("aws", status)) == NO_MOVE


@pytest.mark.parametrize("status", sorted(FINAL))
@pytest.mark.parametrize("role", sorted(set(ROLES) - {"superuser"}))
def test_a_final_row_never_changes(world: World, role: str, status: Status) -> None:
    ended = world.of(WORKERS.get(role, "aws"), status)
    before = _row(world, ended)
    with acting(world.database, role, autocommit=False) as conn:
        set_tenant(conn, world.ours)
        for change in ("version = version + 1", "moved_by = 'x'", "finished_at = now()"):
            text = f"UPDATE csb_app.csb_requests SET {change} WHERE correlation_id = %s"
            assert outcome(conn, text, ended) in {"denied", "0 rows"}
        assert outcome(conn, "DELETE FROM csb_app.csb_requests") in {"denied", "0 rows"}
    assert _row(world, ended) == before


def _row(world: World, correlation_id: UUID) -> object:
    with acting(world.database, "superuser") as conn:
        return conn.execute(
            "SELECT r::text, xmin::text FROM csb_app.csb_requests r WHERE correlation_id = %s",
            (correlation_id,),
        ).fetchone()


def test_one_forbidden_move_takes_its_whole_statement_with_it(world: World) -> None:
    waiting = world.of("aws", Status.PENDING)
    running = world.of("aws", Status.IN_PROGRESS)
    text = """
        UPDATE csb_app.csb_requests
           SET status = 'SUCCESS', version = version + 1, lease_expires_at = NULL,
               finished_at = now()
         WHERE correlation_id = ANY (%s)
    """
    with acting(world.database, "csb_aws_user", autocommit=False) as conn:
        assert outcome(conn, text, [running]) == "1 rows"
        assert outcome(conn, text, [running, waiting]) == NO_MOVE
        assert _statuses(conn, [running, waiting]) == {Status.IN_PROGRESS, Status.PENDING}


def _statuses(conn: Connection, ids: list[UUID]) -> set[str]:
    query = "SELECT status FROM csb_app.csb_requests WHERE correlation_id = ANY (%s)"
    return {row[0] for row in conn.execute(query, (ids,))}


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PENDING}))
def test_a_request_begins_as_pending_whoever_writes_it(world: World, status: Status) -> None:
    text = """
        INSERT INTO csb_app.csb_requests
               (correlation_id, tenant_id, cloud_provider, action, payload, digest, requested_by,
                moved_by, request_id, status, finished_at, lease_expires_at)
        SELECT gen_random_uuid(), tenant_id, cloud_provider, action, payload, digest, 'k', 'k', 'r',
               status, finished_at, lease_expires_at
          FROM csb_app.csb_requests
         WHERE correlation_id = %s
    """
    with acting(world.database, "superuser", autocommit=False) as conn:
        assert outcome(conn, text, world.of("aws", status)) == NO_MOVE
    with acting(world.database, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, world.ours)
        assert outcome(conn, text, world.of("aws", status)) == "denied"


def test_a_row_out_of_shape_is_refused(world: World) -> None:
    running = world.of("aws", Status.IN_PROGRESS)
    shapes = {
        "finished_at = now()": "csb_requests_ended",
        "lease_expires_at = NULL": "csb_requests_leased",
        "status = 'DONE', lease_expires_at = NULL": "csb_requests_status_check",
        "status = NULL": "NotNullViolation",
    }
    with acting(world.database, "csb_aws_user", autocommit=False) as conn:
        for change, constraint in shapes.items():
            text = f"UPDATE csb_app.csb_requests SET {change} WHERE correlation_id = %s"
            assert outcome(conn, text, running) == constraint
