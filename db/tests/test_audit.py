"""The trail of a request: every move is in it once, and nobody can skip, change or forge it."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from db.tests.world import (
    FAULT,
    TTL,
    acting,
    cancel,
    claim,
    draft,
    end_of,
    set_tenant,
    submit,
    trail_of,
)

from csb_core import leases, requests, rescues
from csb_core.db import Connection
from csb_core.leases import Candidate
from csb_core.models import Draft
from csb_core.states import Status
from csb_core.testing import Database


def _written_by(database: Database, one: Draft) -> str:
    """The transaction that wrote the row as it is now."""
    with acting(database, "superuser") as conn:
        [row] = conn.execute(
            "SELECT xmin::text FROM csb_app.csb_requests WHERE correlation_id = %s",
            (one.correlation_id,),
        ).fetchall()
        return str(row[0])


def test_each_move_leaves_one_row_in_its_own_transaction(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    def moved(event: str, origin: str | None, target: str, version: int, **more: Any) -> None:
        expected = {
            "event": event,
            "from_status": origin,
            "to_status": target,
            "version": version,
            "tenant_id": waiting.tenant_id,
            "written_by": _written_by(shared, waiting),
            **more,
        }
        trail = trail_of(shared, waiting)
        assert len(trail) == version
        assert {name: trail[-1][name] for name in expected} == expected

    api = {"mover": "api", "db_role": "csb_api_user"}
    moved("created", None, "PENDING", 1, actor="testkey00000", attempt=0, lease_token=0, **api)

    aws = {"mover": "worker", "db_role": "csb_aws_user", "actor": "w"}
    lease = claim(worker, waiting)
    moved("moved", "PENDING", "IN_PROGRESS", 2, attempt=1, lease_token=1, detail=None, **aws)

    leases.extend(worker, [(lease.correlation_id, lease.token)], ttl=TTL)
    leases.keep(worker, lease.correlation_id, token=lease.token, checkpoint={"a": 1}, ttl=TTL)
    assert len(trail_of(shared, waiting)) == 2  # a heartbeat is no move

    leases.record(worker, [end_of(lease, Status.PENDING, wait=timedelta())], worker="w")
    moved("moved", "IN_PROGRESS", "PENDING", 3, attempt=1, detail=FAULT, **aws)

    lease = claim(worker, waiting)
    leases.record(worker, [end_of(lease, Status.SUCCESS)], worker="w")
    moved("moved", "IN_PROGRESS", "SUCCESS", 5, attempt=2, changed=True, detail=None, **aws)


def test_a_cancelled_request_says_who_cancelled_it(shared: Database, waiting: Draft) -> None:
    with acting(shared, "csb_api_user") as conn:
        cancel(conn, waiting)
    [_, last] = trail_of(shared, waiting)
    assert (last["from_status"], last["to_status"]) == ("PENDING", "CANCELLED")
    assert (last["actor"], last["mover"], last["db_role"]) == ("canceller", "api", "csb_api_user")
    assert last["written_by"] == _written_by(shared, waiting)


def test_a_rescued_request_says_that_its_worker_was_lost(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    claim(worker, waiting)
    worker.execute(
        "UPDATE csb_app.csb_requests SET lease_expires_at = '-infinity' WHERE correlation_id = %s",
        (waiting.correlation_id,),
    )
    rescues.rescue(worker, "aws", worker="rescuer", oldest=None, margin=TTL, room=0)
    last = trail_of(shared, waiting)[-1]
    assert (last["from_status"], last["to_status"]) == ("IN_PROGRESS", "PENDING")
    assert (last["actor"], last["detail"]) == ("rescuer", rescues.LOSS)
    assert last["written_by"] == _written_by(shared, waiting)


def test_many_rows_moved_at_once_leave_a_row_each(
    shared: Database, tenant: UUID, worker: Connection
) -> None:
    drafts = [draft(tenant) for _ in range(40)]
    submit(shared, *drafts)
    candidates = [Candidate(correlation_id=d.correlation_id, digest=d.digest) for d in drafts]
    held = leases.claim(worker, candidates, worker="w", ttl=TTL)
    ends = [
        end_of(lease, status)
        for lease, status in zip(
            held, [Status.SUCCESS, Status.FAILED, Status.PENDING, Status.SUCCESS] * 10, strict=True
        )
    ]
    assert len(leases.record(worker, ends, worker="w")) == 40

    trail = trail_of(shared, *drafts)
    assert len(trail) == 3 * 40
    last = {row["correlation_id"]: row["to_status"] for row in trail}
    assert last == {end.correlation_id: end.status for end in ends}


def test_a_move_that_is_rolled_back_leaves_nothing(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    with worker.transaction(force_rollback=True):
        lease = claim(worker, waiting)
        leases.record(worker, [end_of(lease, Status.SUCCESS)], worker="w")
    assert [row["event"] for row in trail_of(shared, waiting)] == ["created"]

    unborn = draft(waiting.tenant_id)
    with acting(shared, "csb_api_user") as conn, conn.transaction(force_rollback=True):
        assert requests.insert(conn, [unborn])[0].outcome == "created"
    assert trail_of(shared, unborn) == []


def test_a_move_whose_transaction_fails_later_leaves_nothing(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    with suppress(psycopg.errors.DivisionByZero), worker.transaction():
        claim(worker, waiting)
        worker.execute("SELECT 1 / 0")
    assert [row["event"] for row in trail_of(shared, waiting)] == ["created"]


def test_a_refused_move_leaves_nothing(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        worker.execute(
            "UPDATE csb_app.csb_requests SET status = 'SUCCESS', version = version + 1,"
            " finished_at = now() WHERE correlation_id = %s",
            (waiting.correlation_id,),
        )
    assert [row["event"] for row in trail_of(shared, waiting)] == ["created"]


MOVES_AROUND: Final = {
    "merge": """
        MERGE INTO csb_app.csb_requests r
        USING (SELECT %(id)s::uuid AS id) s ON r.correlation_id = s.id
         WHEN MATCHED THEN UPDATE SET {claimed}
    """,
    "with": """
        WITH moved AS (UPDATE csb_app.csb_requests r SET {claimed}
                        WHERE correlation_id = %(id)s RETURNING 1)
        SELECT count(*) FROM moved
    """,
    "prepared": """
        DO $$ BEGIN UPDATE csb_app.csb_requests r SET {claimed}
                     WHERE correlation_id = (current_setting('test.id'))::uuid; END $$
    """,
}


@pytest.mark.parametrize("way", MOVES_AROUND)
def test_no_other_way_of_writing_passes_the_trail_by(
    shared: Database, waiting: Draft, worker: Connection, way: str
) -> None:
    claimed = (
        "status = 'IN_PROGRESS', version = r.version + 1, lease_expires_at = now(), moved_by = 'x'"
    )
    text = MOVES_AROUND[way].replace("{claimed}", claimed)
    with worker.transaction():
        worker.execute("SELECT set_config('test.id', %s, true)", (str(waiting.correlation_id),))
        worker.execute(text, {"id": waiting.correlation_id} if "%(id)s" in text else None)
    assert [row["version"] for row in trail_of(shared, waiting)] == [1, 2]


def test_the_api_cannot_upsert_or_copy_its_way_around(shared: Database, waiting: Draft) -> None:
    upsert = """
        INSERT INTO csb_app.csb_requests
               (correlation_id, tenant_id, cloud_provider, action, payload, digest, requested_by,
                moved_by, request_id)
        VALUES (%s, %s, 'aws', 'a', '{}', 'd', 'k', 'k', 'r')
        ON CONFLICT (correlation_id) DO UPDATE
           SET status = 'CANCELLED', version = csb_requests.version + 1, finished_at = now(),
               moved_by = 'upsert'
    """
    copied = "COPY csb_app.csb_requests (correlation_id, tenant_id) FROM STDIN"
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, waiting.tenant_id)
        conn.execute(upsert, (waiting.correlation_id, waiting.tenant_id))
        conn.commit()
        with pytest.raises(psycopg.errors.FeatureNotSupported), conn.cursor().copy(copied):
            pass
    assert [row["actor"] for row in trail_of(shared, waiting)] == ["testkey00000", "upsert"]
