"""The worker's side of the store: one lease per request, and nothing written without its token."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from tiny import Tiny, make_end

from csb_core import accounts, leases, requests, rescues
from csb_core.errors import LeaseLost
from csb_core.ids import new_id
from csb_core.leases import Candidate
from csb_core.models import Lease, Ref
from csb_core.states import FINAL, Status
from csb_core.testing import ACCOUNT, as_tenant, make_draft, make_tenant

TTL = timedelta(seconds=60)


def test_eight_threads_that_claim_the_same_requests_get_each_of_them_once(tiny: Tiny) -> None:
    ids = tiny.submit(40, ring=False)
    candidates = [Candidate(correlation_id=i, digest=tiny.row(i)["digest"]) for i in ids]
    together = threading.Barrier(8)

    def claim_all(number: int) -> list[Lease]:
        mine = candidates if number % 2 else list(reversed(candidates))
        with psycopg.connect(tiny.url, autocommit=True) as conn:
            together.wait()
            return leases.claim(conn, mine, worker=f"w{number}", ttl=TTL)  # and no deadlock

    with ThreadPoolExecutor(8) as threads:
        claims = [lease for got in threads.map(claim_all, range(8)) for lease in got]

    assert sorted(lease.correlation_id for lease in claims) == sorted(ids)
    assert {lease.token for lease in claims} == {1}
    assert {lease.attempt for lease in claims} == {1}
    assert tiny.broken_trails() == []


def test_a_claim_gives_everything_that_an_action_needs(tiny: Tiny) -> None:
    [request] = tiny.submit(1, "noop", colour="red")
    [lease] = tiny.claim(request, worker="w1", ttl=60)

    assert (lease.correlation_id, lease.tenant_id) == (request, tiny.tenant)
    assert (lease.action, lease.cloud_provider) == ("noop", "tiny")
    assert lease.parameters == {"colour": "red", "number": 0}
    assert (lease.attempt, lease.retries, lease.token, lease.version) == (1, 0, 1, 2)
    assert lease.target is None
    row = tiny.row(request)
    assert (row["status"], row["lease_owner"], row["moved_by"]) == ("IN_PROGRESS", "w1", "w1")
    assert tiny.trail(request) == ["created", "PENDING>IN_PROGRESS"]


def test_the_same_candidate_twice_is_claimed_once(tiny: Tiny) -> None:
    [request] = tiny.submit()
    digest = tiny.row(request)["digest"]
    twice = [Candidate(correlation_id=request, digest=digest)] * 2
    assert len(leases.claim(tiny.store, twice, worker="w1", ttl=TTL)) == 1
    assert tiny.row(request)["attempt"] == 1


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("status = 'IN_PROGRESS', lease_expires_at = now() + interval '1 h'", "held by another"),
        ("status = 'IN_PROGRESS', lease_expires_at = now() - interval '1 h'", "the rescuer's"),
        ("status = 'SUCCESS', finished_at = now()", "ended"),
        ("status = 'CANCELLED', finished_at = now()", "cancelled"),
        ("available_at = now() + interval '1 h'", "not due"),
        ("digest = 'another'", "not what the message says"),
        ("losses = 2", "to be claimed alone"),
        ("cloud_provider = 'aws'", "another provider's"),
    ],
)
def test_what_is_not_there_to_take_is_not_taken(tiny: Tiny, made: str, why: str) -> None:
    [request], digest = tiny.submit(), None
    digest = tiny.row(request)["digest"]
    with psycopg.connect(tiny.database.superuser) as conn:
        conn.execute("SET session_replication_role = replica")  # no trigger: any row can be made
        conn.execute(f"UPDATE csb_app.csb_requests SET {made}")
    before = tiny.row(request)
    candidate = Candidate(correlation_id=request, digest=digest)

    assert leases.claim(tiny.store, [candidate], worker="w2", ttl=TTL) == [], why
    assert tiny.row(request) == before


def test_only_a_lone_claim_takes_what_has_lost_workers_and_nothing_else(tiny: Tiny) -> None:
    lost, fresh = tiny.submit(2)
    tiny.superuser.execute(
        "UPDATE csb_app.csb_requests SET losses = 2 WHERE correlation_id = %s", (lost,)
    )
    assert [lease.correlation_id for lease in tiny.claim(lost, fresh)] == [fresh]
    assert tiny.claim(fresh, alone=True) == []
    assert [lease.correlation_id for lease in tiny.claim(lost, alone=True)] == [lost]
    assert tiny.row(lost)["alone"] is True
    assert tiny.row(fresh)["alone"] is False


def test_tokens_only_ever_grow(tiny: Tiny) -> None:
    [request] = tiny.submit()
    tokens = []
    for _ in range(4):
        [lease] = tiny.claim(request)
        tokens.append(lease.token)
        leases.record(
            tiny.store,
            [make_end(lease, status=Status.PENDING, wait=timedelta(), result=None, changed=None)],
            worker="w1",
        )
    assert tokens == [1, 2, 3, 4]
    assert tiny.row(request)["lease_token"] == 4


def test_a_request_is_claimed_again_only_after_its_lease_has_run_out_and_been_returned(
    tiny: Tiny,
) -> None:
    [request] = tiny.submit()
    [first] = tiny.claim(request)
    assert tiny.claim(request, worker="w2") == []
    tiny.expire(request)
    assert tiny.claim(request, worker="w2") == []
    rescues.rescue(
        tiny.store, "tiny", worker="r", oldest=None, margin=timedelta(seconds=2), room=10
    )
    [second] = tiny.claim(request, worker="w2")
    assert (second.token, second.attempt) == (first.token + 1, 2)


@pytest.mark.parametrize("status", [Status.SUCCESS, Status.FAILED, Status.PENDING])
def test_a_stale_token_writes_nothing_at_all(tiny: Tiny, status: Status) -> None:
    [request] = tiny.submit()
    [first] = tiny.claim(request, worker="w1")
    again = make_end(first, status=Status.PENDING, wait=timedelta(), result=None, changed=None)
    leases.record(tiny.store, [again], worker="w1")
    [second] = tiny.claim(request, worker="w2")
    before, trail = tiny.row(request), tiny.trail(request)

    stale = make_end(
        first,
        status=status,
        wait=timedelta() if status is Status.PENDING else None,
        refs=(Ref(type="t", value="v", service="s", operation="o"),),
        checkpoint={"stale": True},
    )
    assert leases.record(tiny.store, [stale], worker="w1") == {}
    with pytest.raises(LeaseLost):
        leases.keep(tiny.store, request, token=first.token, checkpoint={"stale": True}, ttl=TTL)
    assert leases.extend(tiny.store, [(request, first.token)], ttl=TTL) == set()
    assert tiny.row(request) == before
    assert tiny.trail(request) == trail
    assert tiny.refs(request) == []

    assert set(leases.record(tiny.store, [make_end(second)], worker="w2")) == {request}


def test_a_row_that_has_ended_takes_no_second_end_even_from_its_own_token(tiny: Tiny) -> None:
    [request] = tiny.submit()
    [lease] = tiny.claim(request)
    leases.record(tiny.store, [make_end(lease)], worker="w1")
    before = tiny.row(request)
    failed = make_end(lease, status=Status.FAILED, result=None)
    assert leases.record(tiny.store, [failed], worker="w1") == {}
    assert leases.extend(tiny.store, [(request, lease.token)], ttl=TTL) == set()
    assert tiny.row(request) == before


def test_one_stale_end_in_a_batch_harms_no_other(tiny: Tiny) -> None:
    ids = tiny.submit(5)
    held = tiny.claim(*ids)
    ends = [make_end(lease) for lease in held]
    ends[2] = replace(ends[2], token=99)
    recorded = leases.record(tiny.store, ends, worker="w1")
    assert set(recorded) == set(ids) - {ends[2].correlation_id}
    assert tiny.statuses() == {"SUCCESS": 4, "IN_PROGRESS": 1}


def test_extending_says_which_leases_are_lost(tiny: Tiny) -> None:
    ids = tiny.submit(3)
    held = {lease.correlation_id: lease.token for lease in tiny.claim(*ids, ttl=1)}
    held[ids[1]] += 1  # somebody else's by now
    before = tiny.row(ids[0])["lease_expires_at"]
    kept = leases.extend(tiny.store, held.items(), ttl=TTL)
    assert kept == {(ids[0], held[ids[0]]), (ids[2], held[ids[2]])}
    assert tiny.row(ids[0])["lease_expires_at"] > before
    assert tiny.row(ids[0])["version"] == 2  # a heartbeat is no move
    assert tiny.trail(ids[0]) == ["created", "PENDING>IN_PROGRESS"]


def test_a_heartbeat_that_comes_late_but_before_the_rescuer_keeps_the_lease(tiny: Tiny) -> None:
    [request] = tiny.submit()
    [lease] = tiny.claim(request)
    tiny.expire(request)
    assert leases.extend(tiny.store, [lease.claim], ttl=TTL) == {lease.claim}


def test_a_checkpoint_reaches_the_next_lease_and_survives_ends_that_bring_none(tiny: Tiny) -> None:
    [request] = tiny.submit()
    [lease] = tiny.claim(request, ttl=1)
    assert lease.checkpoint is None
    expires = tiny.row(request)["lease_expires_at"]
    leases.keep(tiny.store, request, token=lease.token, checkpoint={"before": [1]}, ttl=TTL)
    assert tiny.row(request)["lease_expires_at"] > expires

    again = make_end(lease, status=Status.PENDING, wait=timedelta(), result=None, changed=None)
    leases.record(tiny.store, [again], worker="w1")
    [lease] = tiny.claim(request)
    assert lease.checkpoint == {"before": [1]}

    newer = replace(again, token=lease.token, checkpoint={"before": [2]})
    leases.record(tiny.store, [newer], worker="w1")
    [lease] = tiny.claim(request)
    assert lease.checkpoint == {"before": [2]}


def test_references_are_written_with_the_record_they_belong_to(tiny: Tiny) -> None:
    ids = tiny.submit(2)
    held = tiny.claim(*ids)
    ends = [
        make_end(
            lease,
            refs=tuple(
                Ref(
                    type="request_id",
                    value=f"{lease.correlation_id}/{n}",
                    service="s",
                    operation="o",
                )
                for n in range(2)
            ),
        )
        for lease in held
    ]
    leases.record(tiny.store, ends, worker="w1")
    for request in ids:
        assert tiny.refs(request) == [(1, f"{request}/0"), (1, f"{request}/1")]


def test_a_retry_waits_for_its_time_and_counts_only_when_it_says_so(tiny: Tiny) -> None:
    counted, free = tiny.submit(2)
    for request, counts in ((counted, True), (free, False)):
        [lease] = tiny.claim(request)
        end = make_end(
            lease,
            status=Status.PENDING,
            wait=timedelta(seconds=30),
            counts_as_retry=counts,
            result=None,
            changed=None,
            error={"class": "THROTTLED"},
        )
        leases.record(tiny.store, [end], worker="w1")
        row = tiny.row(request)
        assert (row["status"], row["retries"]) == ("PENDING", int(counts))
        assert 29 < (row["available_at"] - row["updated_at"]).total_seconds() <= 30
        assert (row["lease_expires_at"], row["finished_at"]) == (None, None)
        assert row["error"] == {"class": "THROTTLED"}
        assert tiny.claim(request) == []


def test_a_request_that_waits_for_its_time_can_be_read(tiny: Tiny) -> None:
    [request] = tiny.submit()
    [lease] = tiny.claim(request)
    end = make_end(
        lease, status=Status.PENDING, wait=timedelta(seconds=30), result=None, changed=None
    )
    leases.record(tiny.store, [end], worker="w1")
    found = requests.get(tiny.api, tiny.tenant, request)
    assert found is not None
    assert found.status is Status.PENDING


def test_an_end_replaces_the_error_of_earlier_attempts(tiny: Tiny) -> None:
    [request] = tiny.submit()
    [lease] = tiny.claim(request)
    again = make_end(
        lease,
        status=Status.PENDING,
        wait=timedelta(),
        result=None,
        changed=None,
        error={"class": "THROTTLED"},
    )
    leases.record(tiny.store, [again], worker="w1")
    [lease] = tiny.claim(request)
    leases.record(tiny.store, [make_end(lease)], worker="w1")
    row = tiny.row(request)
    assert (row["status"], row["error"], row["result"]) == ("SUCCESS", None, {"ok": True})
    assert row["finished_at"] == row["updated_at"]


def test_standing_tells_what_could_not_be_claimed(tiny: Tiny) -> None:
    held, waiting = tiny.submit(2)
    [lease] = tiny.claim(held, worker="w7")
    unknown = new_id()
    found = leases.standing(tiny.store, [held, waiting, unknown])
    assert set(found) == {held, waiting}
    assert (found[held].status, found[held].token) == (Status.IN_PROGRESS, lease.token)
    assert found[held].moved_by == "w7"
    assert (found[waiting].status, found[waiting].due) == (Status.PENDING, True)


def test_a_worker_of_another_provider_sees_none_of_it(tiny: Tiny) -> None:
    [request] = tiny.submit()
    candidate = Candidate(correlation_id=request, digest=tiny.row(request)["digest"])
    with psycopg.connect(tiny.database.aws, autocommit=True) as conn:
        assert leases.claim(conn, [candidate], worker="w1", ttl=TTL) == []
        assert leases.standing(conn, [request]) == {}


def test_a_cancelled_request_is_nobodys(tiny: Tiny) -> None:
    [request] = tiny.submit()
    with psycopg.connect(tiny.database.api) as conn:
        conn.execute("SELECT set_config('csb.tenant_id', %s, true)", (str(tiny.tenant),))
        requests.cancel(conn, request, actor="key")
    assert tiny.claim(request) == []
    assert tiny.status(request) in FINAL


def test_what_waits_for_its_next_attempt_can_be_cancelled(tiny: Tiny) -> None:
    [request] = tiny.submit()
    [lease] = tiny.claim(request)
    leases.record(tiny.store, [make_end(lease, status=Status.PENDING, wait=TTL)], worker="w1")
    with as_tenant(tiny.database.api, tiny.tenant) as conn:
        cancelled = requests.cancel(conn, request, actor="key")
    assert cancelled is not None
    assert (cancelled.status, cancelled.version) == (Status.CANCELLED, 4)


def test_a_closed_account_is_not_given_with_a_lease(tiny: Tiny) -> None:
    """Who closes it wants nothing more done there; the worker then fails the request."""
    waiting = make_draft(tiny.tenant)
    requests.insert(tiny.api, [waiting])
    with psycopg.connect(tiny.database.admin) as conn:
        accounts.set_status(
            conn, tiny.tenant, cloud_provider="aws", account_id=ACCOUNT, status="disabled"
        )
    candidate = Candidate(correlation_id=waiting.correlation_id, digest=waiting.digest)
    with psycopg.connect(tiny.database.aws, autocommit=True) as conn:
        [lease] = leases.claim(conn, [candidate], worker="w1", ttl=TTL)
    assert lease.target is None


def test_the_other_tenants_account_is_not_given_with_a_lease(tiny: Tiny) -> None:
    """The target comes from the row's own tenant, provider and account."""
    other = make_tenant(tiny.database.admin, account_id="999988887777")
    mine, theirs = make_draft(tiny.tenant), make_draft(other, account_id="999988887777")
    requests.insert(tiny.api, [mine, theirs])
    with psycopg.connect(tiny.database.aws, autocommit=True) as conn:
        held = {
            lease.correlation_id: lease
            for lease in leases.claim(
                conn,
                [
                    Candidate(correlation_id=draft.correlation_id, digest=draft.digest)
                    for draft in (mine, theirs)
                ],
                worker="w1",
                ttl=TTL,
            )
        }
    for draft in (mine, theirs):
        target = held[draft.correlation_id].target
        assert target is not None
        assert target.account_id == draft.payload["account_id"]
        assert target.external_id == f"csb-{draft.tenant_id.hex}"
