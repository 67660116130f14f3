"""The store's way of a request from acceptance to its end, straight and through PgBouncer."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from db.tests.world import TTL, acting, claim, draft, end_of, submit

from csb_core import leases, requests, rescues
from csb_core.db import Pool, connection, tenant_transaction
from csb_core.errors import Conflict, LeaseLost
from csb_core.leases import Candidate
from csb_core.models import Draft
from csb_core.states import Status
from csb_core.testing import Database

PoolOf = Callable[..., Pool]
NOT_YET = timedelta(hours=1)


@pytest.fixture
def api(shared: Database, pool_of: PoolOf) -> Pool:
    return pool_of(shared.api)


@pytest.fixture
def aws(shared: Database, pool_of: PoolOf) -> Pool:
    return pool_of(shared.aws)


@pytest.fixture
def waiting(api: Pool, tenant: UUID) -> Draft:
    """A request that waits."""
    one = draft(tenant)
    with connection(api) as conn:
        assert requests.insert(conn, [one])[0].outcome == "created"
    return one


def test_a_request_goes_its_way_and_its_tenant_can_follow_it(
    api: Pool, aws: Pool, waiting: Draft
) -> None:
    for _ in range(7):  # often enough for plans to be kept
        with connection(aws) as conn, conn.transaction(force_rollback=True):
            claim(conn, waiting)
    with connection(aws) as conn:
        lease = claim(conn, waiting)
        held = [(lease.correlation_id, lease.token)]
        assert leases.extend(conn, held, ttl=TTL) == set(held)
        leases.keep(conn, lease.correlation_id, token=lease.token, checkpoint={"n": 1}, ttl=TTL)
        done = leases.record(conn, [end_of(lease, Status.SUCCESS)], worker="w")
        assert done[lease.correlation_id].version == 3

    assert lease.payload == waiting.payload
    assert lease.target is not None
    with connection(api) as conn:
        shown = requests.get(conn, waiting.tenant_id, waiting.correlation_id)
    assert shown is not None
    assert (shown.status, shown.version, shown.attempt) == (Status.SUCCESS, 3, 1)
    with tenant_transaction(api, waiting.tenant_id) as conn:
        trail = requests.audit(conn, waiting.correlation_id)
        named = requests.refs(conn, waiting.correlation_id)
    assert [row["to_status"] for row in trail] == ["PENDING", "IN_PROGRESS", "SUCCESS"]
    assert [ref["value"] for ref in named or []] == ["r-1"]


def test_a_worker_that_was_replaced_writes_nothing(aws: Pool, waiting: Draft) -> None:
    with connection(aws) as conn:
        stale = claim(conn, waiting, worker="slow")
        back = end_of(stale, Status.PENDING, wait=timedelta())
        assert leases.record(conn, [back], worker="rescuer")
        fresh = claim(conn, waiting, worker="quick")
        assert fresh.token == stale.token + 1

        held = [(stale.correlation_id, stale.token)]
        assert leases.extend(conn, held, ttl=TTL) == set()
        assert leases.record(conn, [end_of(stale, Status.FAILED)], worker="slow") == {}
        with pytest.raises(LeaseLost):
            leases.keep(conn, stale.correlation_id, token=stale.token, checkpoint={}, ttl=TTL)

        where = leases.standing(conn, [stale.correlation_id])[stale.correlation_id]
        assert (where.status, where.token, where.moved_by) == ("IN_PROGRESS", 2, "quick")
        assert leases.record(conn, [end_of(fresh, Status.SUCCESS)], worker="quick")
        assert leases.record(conn, [end_of(fresh, Status.FAILED)], worker="quick") == {}


def test_what_is_not_there_to_take_is_not_taken(aws: Pool, api: Pool, waiting: Draft) -> None:
    forged = Candidate(correlation_id=waiting.correlation_id, digest="0" * 64)
    unknown = Candidate(correlation_id=uuid4(), digest=waiting.digest)
    other = draft(waiting.tenant_id, "sandbox")
    with connection(api) as conn:
        requests.insert(conn, [other])
    foreign = Candidate(correlation_id=other.correlation_id, digest=other.digest)
    with connection(aws) as conn:
        assert leases.claim(conn, [forged, unknown, foreign], worker="w", ttl=TTL) == []
        assert leases.standing(conn, [unknown.correlation_id, other.correlation_id]) == {}
        where = leases.standing(conn, [waiting.correlation_id])[waiting.correlation_id]
        assert (where.status, where.version, where.token) == (Status.PENDING, 1, 0)
        lease = claim(conn, waiting)
        assert leases.claim(conn, [forged], worker="other", ttl=TTL) == []
        leases.record(conn, [end_of(lease, Status.PENDING, wait=NOT_YET)], worker="w")
        again = Candidate(correlation_id=waiting.correlation_id, digest=waiting.digest)
        assert leases.claim(conn, [again], worker="w", ttl=TTL) == []


def test_workers_that_name_the_same_rows_wait_for_each_other(
    shared: Database, tenant: UUID, pool_of: PoolOf
) -> None:
    drafts = [draft(tenant) for _ in range(25)]
    submit(shared, *drafts)
    pool = pool_of(shared.aws, 5)
    faults: list[Exception] = []

    def work(name: str) -> None:
        chance = random.Random(name)
        try:
            for _ in range(25):
                some = chance.sample(drafts, 15)
                wanted = [Candidate(correlation_id=d.correlation_id, digest=d.digest) for d in some]
                with connection(pool) as conn:
                    held = leases.claim(conn, wanted, worker=name, ttl=TTL)
                    chance.shuffle(held)
                    leases.extend(conn, [(one.correlation_id, one.token) for one in held], ttl=TTL)
                    back = [end_of(one, Status.PENDING, wait=timedelta()) for one in held]
                    assert len(leases.record(conn, back, worker=name)) == len(held)
        except Exception as exc:  # noqa: BLE001 - a thread's fault is the test's
            faults.append(exc)

    workers = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert faults == []
    query = """
        SELECT correlation_id, array_agg(version ORDER BY audit_id) FROM csb_app.csb_requests_audit
         WHERE tenant_id = %s GROUP BY 1
    """
    with acting(shared, "csb_admin_user") as conn:
        trails = dict(conn.execute(query, (tenant,)).fetchall())
    assert len(trails) == len(drafts)
    for versions in trails.values():  # no move is missing, and none is told twice
        assert versions == list(range(1, len(versions) + 1))


def test_only_a_waiting_request_is_cancelled(aws: Pool, api: Pool, waiting: Draft) -> None:
    with connection(aws) as conn:
        claim(conn, waiting)
    with pytest.raises(Conflict), tenant_transaction(api, waiting.tenant_id) as conn:
        requests.cancel(conn, waiting.correlation_id, actor="k")


def test_one_rescuer_at_a_time_and_none_is_held_up(
    aws: Pool, shared: Database, waiting: Draft
) -> None:
    with connection(aws) as conn:
        claim(conn, waiting)
        conn.execute(
            "UPDATE csb_app.csb_requests SET lease_expires_at = '-infinity'"
            " WHERE correlation_id = %s",
            (waiting.correlation_id,),
        )
    lock = "SELECT pg_advisory_xact_lock(hashtextextended('csb.rescue.aws', 0))"
    with acting(shared, "csb_aws_user") as rival, rival.transaction():
        rival.execute(lock)
        assert _rescue(aws) == {}
    assert _rescue(aws)[waiting.correlation_id].moved
    assert waiting.correlation_id not in _rescue(aws)


def _rescue(pool: Pool) -> dict[UUID, rescues.Rescued]:
    with connection(pool) as conn:
        found = rescues.rescue(conn, "aws", worker="r", oldest=None, margin=TTL, room=0)
    return {one.correlation_id: one for one in found}
