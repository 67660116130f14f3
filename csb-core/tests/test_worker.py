"""One worker process, run in this one, on real servers: what it does with messages and actions.

The provider `tiny` has a role in the database and nothing else: what works here needs no more.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from prometheus_client import generate_latest
from psycopg import sql
from tiny import PROVIDER, Act, Tiny, done, eventually, make_end

from csb_core import keys, leases, metrics
from csb_core.cache import StatusCache
from csb_core.errors import (
    CacheUnavailable,
    ConfigurationError,
    LeaseLost,
    StoreRejected,
    StoreUnavailable,
)
from csb_core.ids import new_id
from csb_core.leases import LOSSES_BEFORE_ALONE
from csb_core.models import Failed, Json, Lease, Outcome, Ref, Retry, Succeeded, Unfinished
from csb_core.queue import Queue, decode, encode
from csb_core.states import Status
from csb_core.worker import executor as executing
from csb_core.worker import fitness, recorder
from csb_core.worker import settle as settling
from csb_core.worker.action import Attempt
from csb_core.worker.hand import Holding
from csb_core.worker.main import WorkerProcess

SECRET = "the tenant must not read this"


@dataclass(slots=True)
class Gate:
    """An action that waits until it is let go, and counts how often it was begun."""

    open: threading.Event = field(default_factory=threading.Event)
    begun: Counter[UUID] = field(default_factory=Counter)

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        self.begun[lease.correlation_id] += 1
        assert self.open.wait(30)
        return done(lease, attempt)


@dataclass(slots=True)
class Count:
    """An action that counts how often it was executed."""

    of: Counter[UUID] = field(default_factory=Counter)

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        self.of[lease.correlation_id] += 1
        return done(lease, attempt)


def always(outcome: Outcome) -> Act:
    return Act(do=lambda _lease, _attempt: outcome)


def counted(name: str, **labels: str) -> float:
    """The value of a metric now."""
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    total = 0.0
    for line in generate_latest(metrics.REGISTRY).decode().splitlines():
        sample, _, value = line.rpartition(" ")
        if sample.partition("{")[0] == name and all(label in sample for label in wanted):
            total += float(value)
    return total


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other quickly."""
    monkeypatch.setattr(settling, "BASE", timedelta(milliseconds=5))


# -- from a message to its end


def test_requests_go_from_their_message_to_their_end(tiny: Tiny) -> None:
    ids = tiny.submit(40, "noop", colour="red")
    with tiny.working():
        assert tiny.await_ends(ids) == {"SUCCESS": 40}
    row = tiny.row(ids[7])
    assert row["result"] == {"echo": {"number": 7, "colour": "red"}}
    assert (row["attempt"], row["retries"], row["changed"]) == (1, 0, True)
    assert tiny.trail(ids[7]) == ["created", "PENDING>IN_PROGRESS", "IN_PROGRESS>SUCCESS"]
    assert tiny.broken_trails() == []
    assert tiny.depth() == 0


def test_a_request_that_was_never_rung_is_found(tiny: Tiny) -> None:
    ids = tiny.submit(3, ring=False)
    tiny.age(60)
    with tiny.working():
        assert tiny.await_ends(ids) == {"SUCCESS": 3}


@pytest.mark.parametrize("copies", [2, 20])
def test_a_doubled_message_is_executed_once(tiny: Tiny, copies: int) -> None:
    count = Count()
    ids = tiny.submit(5)
    for _ in range(copies - 1):
        tiny.push(*(tiny.message(request) for request in ids))
    with tiny.working({"noop": Act(do=count)}), tiny.working({"noop": Act(do=count)}):
        assert tiny.await_ends(ids) == {"SUCCESS": 5}
        eventually(lambda: tiny.depth() == 0)
        time.sleep(0.3)
    assert count.of == dict.fromkeys(ids, 1)
    assert {tiny.row(request)["attempt"] for request in ids} == {1}


def test_an_action_that_nobody_knows_fails(tiny: Tiny) -> None:
    ids = tiny.submit(1, "unheard-of")
    with tiny.working():
        assert tiny.await_ends(ids) == {"FAILED": 1}
    assert tiny.row(ids[0])["error"]["code"] == "unknown_action"


def test_what_an_action_says_is_what_is_recorded(tiny: Tiny) -> None:
    ref = Ref(type="request_id", value="r-1", service="iam", operation="AttachUserPolicy")
    actions = {
        "ok": always(Succeeded(result={"a": [1]}, changed=False, refs=(ref,))),
        "no": always(Failed(error_class="DENIED", code="AccessDenied", message="no", refs=(ref,))),
    }
    [ok], [no] = tiny.submit(1, "ok"), tiny.submit(1, "no")
    with tiny.working(actions):
        tiny.await_ends([ok, no])
    assert (tiny.row(ok)["result"], tiny.row(ok)["changed"]) == ({"a": [1]}, False)
    assert tiny.row(no)["error"]["class"] == "DENIED"
    assert tiny.refs(ok) == tiny.refs(no) == [(1, "r-1")]


def test_the_lines_of_an_end_carry_what_people_search_for(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    refs = tuple(
        Ref(type="request_id", value=value, service="iam", operation="GetUser")
        for value in ("r-1", "r-2")
    )

    def act(lease: Lease, _: Attempt) -> Outcome:
        if lease.attempt == 1:
            return Retry(error_class="THROTTLED", code="Throttling", message="slow down", refs=refs)
        return Failed(error_class="DENIED", code="AccessDenied", message="no", refs=refs[:1])

    [request] = tiny.submit()
    with caplog.at_level("INFO"), tiny.working({"noop": Act(do=act)}):
        assert tiny.await_ends([request]) == {"FAILED": 1}
    said = {r.message: vars(r) for r in caplog.records if r.message.startswith("request.")}
    back, end = said["request.given_back"], said["request.ended"]
    assert {back["correlation_id"], end["correlation_id"]} == {str(request)}
    assert (back["status"], back["error_class"], back["code"]) == (
        "PENDING",
        "THROTTLED",
        "Throttling",
    )
    assert (end["status"], end["error_class"], end["code"]) == ("FAILED", "DENIED", "AccessDenied")
    assert (back["refs"], end["refs"]) == ({"request_id": ["r-1", "r-2"]}, {"request_id": ["r-1"]})
    assert (end["attempt"], end["duration_ms"] >= 0) == (2, True)


# -- messages that no honest API wrote


def test_bad_messages_are_dropped_counted_and_reported_and_stop_nobody(tiny: Tiny) -> None:
    names = ("unreadable", "unknown", "forged")
    before = {
        name: counted("csb_messages_dropped_total", provider=PROVIDER, reason=name)
        for name in names
    }
    ids = tiny.submit(10, ring=False)
    forged = []
    for request in ids:
        fields = orjson.loads(tiny.message(request))
        fields["payload"]["parameters"]["number"] = 99
        forged.append(orjson.dumps(fields))
    unknown = decode(tiny.message(ids[0]))
    tiny.push(
        *(b"garbage %d" % n for n in range(30)),
        *forged,
        *(
            encode(
                type(unknown)(
                    **{
                        **{name: getattr(unknown, name) for name in type(unknown).__slots__},
                        "correlation_id": new_id(),
                    }
                ),
                "digest",
            )
            for _ in range(5)
        ),
    )
    with tiny.working():
        eventually(lambda: sum(tiny.security_events().values()) == 45)
        assert tiny.statuses() == {"PENDING": 10}
        assert {tiny.row(request)["attempt"] for request in ids} == {0}  # it cost them nothing

        tiny.push(*(tiny.message(request) for request in ids))
        assert tiny.await_ends(ids) == {"SUCCESS": 10}
    assert tiny.security_events() == {
        "message_unreadable": 30,
        "message_forged": 10,
        "message_unknown": 5,
    }
    for name, count in {"unreadable": 30, "forged": 10, "unknown": 5}.items():
        now = counted("csb_messages_dropped_total", provider=PROVIDER, reason=name)
        assert now - before[name] == count
    assert {tiny.row(request)["result"]["echo"]["number"] for request in ids} == set(range(10))
    assert "garbage" not in str(
        tiny.superuser.execute("SELECT * FROM csb_app.csb_security_events").fetchall()
    )


@pytest.mark.parametrize("first", ["forged", "honest"])
def test_a_forged_twin_in_the_same_batch_is_reported_and_the_honest_one_served(
    tiny: Tiny, first: str
) -> None:
    [request] = tiny.submit(1, ring=False)
    honest = tiny.message(request)
    fields = orjson.loads(honest)
    fields["payload"]["action"] = "something worse"
    both = [orjson.dumps(fields), honest]
    tiny.push(*(both if first == "forged" else both[::-1]))
    with tiny.working():
        assert tiny.await_ends([request], within=1.9) == {"SUCCESS": 1}  # not by the rescuer
        eventually(lambda: tiny.security_events() == {"message_forged": 1})
    assert tiny.row(request)["attempt"] == 1


def test_another_providers_request_is_unknown_here(tiny: Tiny) -> None:
    [request] = tiny.submit(1, ring=False)
    message = tiny.message(request)
    tiny.superuser.execute("UPDATE csb_app.csb_requests SET cloud_provider = 'aws'")
    tiny.push(message)
    with tiny.working():
        eventually(lambda: tiny.security_events() == {"message_unknown": 1})
    assert tiny.row(request)["attempt"] == 0


def test_messages_of_what_has_ended_or_waits_are_dropped_in_silence(tiny: Tiny) -> None:
    ended, waits = tiny.submit(1), tiny.submit(1, ring=False)
    with tiny.working():
        tiny.await_ends(ended)
        tiny.superuser.execute(
            "UPDATE csb_app.csb_requests SET available_at = now() + interval '1 h'"
            " WHERE finished_at IS NULL"
        )
        before = counted("csb_messages_dropped_total", provider=PROVIDER, reason="settled")
        tiny.push(*(tiny.message(request) for request in [*ended, *waits] * 3))
        eventually(
            lambda: (
                counted("csb_messages_dropped_total", provider=PROVIDER, reason="settled")
                >= before + 2
                and tiny.depth() == 0
            )
        )
    assert tiny.security_events() == {}
    assert tiny.row(waits[0])["attempt"] == 0


# -- neighbours, leases, deadlines


def test_a_slow_request_holds_up_no_neighbours_record(tiny: Tiny) -> None:
    gate = Gate()
    [slow] = tiny.submit(1, "slow", ring=False)
    fast = tiny.submit(30, ring=False)
    tiny.push(tiny.message(slow), *(tiny.message(request) for request in fast))
    with tiny.working({"slow": Act(do=gate), "noop": Act(do=done)}):
        assert tiny.await_ends(fast) == {"SUCCESS": 30}
        assert tiny.status(slow) is Status.IN_PROGRESS
        gate.open.set()
        assert tiny.await_ends([slow]) == {"SUCCESS": 1}


def test_a_heartbeat_keeps_a_request_three_times_longer_than_its_lease(tiny: Tiny) -> None:
    count = Count()

    def slow(lease: Lease, attempt: Attempt) -> Outcome:
        time.sleep(4.5)
        attempt.require_lease()
        return count(lease, attempt)

    ids = tiny.submit(3)
    short = {"lease_seconds": 1.5, "heartbeat_seconds": 0.3}
    with (
        tiny.working({"noop": Act(do=slow)}, **short),
        tiny.working({"noop": Act(do=slow)}, **short),
    ):
        assert tiny.await_ends(ids) == {"SUCCESS": 3}
    assert count.of == dict.fromkeys(ids, 1)
    assert tiny.trail(ids[0]) == ["created", "PENDING>IN_PROGRESS", "IN_PROGRESS>SUCCESS"]


def test_a_heartbeat_tells_at_once_what_is_lost(tiny: Tiny) -> None:
    ids = tiny.submit(3)
    worker = tiny.worker()
    worker.pool.wait()
    holdings = [
        Holding(lease=lease, expires=time.monotonic() + 60, due=math.inf)
        for lease in tiny.claim(*ids)
    ]
    for holding in holdings:
        worker.loop.hand.add(holding)
    assert worker.heartbeat.run_once() == 0
    tiny.expire(ids[1])
    worker.rescuer.run_once()
    assert worker.heartbeat.run_once() == 1
    assert [holding.lost for holding in holdings] == [h.lease.claim[0] == ids[1] for h in holdings]
    for holding in holdings:
        assert holding.is_good_for(timedelta(seconds=1)) is not holding.lost
    assert worker.heartbeat.run_once() == 0  # it is not asked for again
    assert tiny.status(ids[1]) is Status.PENDING
    worker.pool.close()


@contextmanager
def _asked_to_end() -> Iterator[threading.Event]:
    """Notes SIGTERM, by which a process asks gunicorn to replace it, instead of following it."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_hung_action_costs_its_process_and_nothing_else(tiny: Tiny) -> None:
    gate = Gate()
    hangs = Act(do=gate, deadline=timedelta(seconds=1))
    [hung] = tiny.submit(1, "hangs")
    short = {"lease_seconds": 2, "heartbeat_seconds": 0.3}
    with (
        _asked_to_end() as asked,
        tiny.working({"hangs": hangs, "noop": Act(do=done)}, **short) as first,
    ):
        eventually(lambda: gate.begun[hung])
        beside = tiny.submit(5)
        assert tiny.await_ends(beside) == {"SUCCESS": 5}
        eventually(asked.is_set)
        assert first.ended.wait(5)
        assert first.checks()["consumer"] == "draining"

        # What comes now is another process's; the hung request as well, once its lease is over.
        later = tiny.submit(2)
        with tiny.working({"hangs": Act(do=done), "noop": Act(do=done)}, **short):
            assert tiny.await_ends([hung, *later]) == {"SUCCESS": 3}
        row = tiny.row(hung)
        gate.open.set()
        time.sleep(0.3)
        assert tiny.row(hung) == row
    assert (row["attempt"], row["losses"], row["retries"]) == (2, 1, 0)
    assert tiny.trail(hung)[:4] == [
        "created",
        "PENDING>IN_PROGRESS",
        "IN_PROGRESS>PENDING",
        "PENDING>IN_PROGRESS",
    ]


def test_a_finished_action_that_waits_for_its_record_is_not_hung(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL may be away for longer than a deadline: that is no reason to end the process."""
    away = threading.Event()
    record = leases.record

    def unavailable(*args: Any, **more: Any) -> Any:
        if away.is_set():
            raise StoreUnavailable("away")
        return record(*args, **more)

    monkeypatch.setattr(leases, "record", unavailable)
    ids = tiny.submit(4)
    away.set()
    with (
        _asked_to_end() as asked,
        tiny.working({"noop": Act(do=done, deadline=timedelta(seconds=1))}) as worker,
    ):
        eventually(lambda: len(worker.loop.unrecorded) == 4)
        time.sleep(2)
        assert worker.loop.hand.abandoned() == []
        away.clear()
        assert tiny.await_ends(ids) == {"SUCCESS": 4}
        assert not asked.is_set()
    assert {tiny.row(request)["attempt"] for request in ids} == {1}


def test_a_process_may_meet_its_own_lost_request_again(tiny: Tiny) -> None:
    """After an outage: the first attempt still runs in one of its threads, and must not harm."""
    first, second = threading.Event(), threading.Event()

    def act(lease: Lease, attempt: Attempt) -> Outcome:
        if lease.attempt == 1:
            assert first.wait(20)
            with pytest.raises(LeaseLost):
                attempt.require_lease()
            return Succeeded(result={"attempt": 1}, changed=True)
        assert second.wait(20)
        attempt.require_lease()
        return Succeeded(result={"attempt": 2}, changed=True)

    [request] = tiny.submit(1)
    with tiny.working({"noop": Act(do=act)}) as worker:
        eventually(lambda: tiny.status(request) is Status.IN_PROGRESS)
        tiny.superuser.execute(
            """
            UPDATE csb_app.csb_requests
               SET lease_expires_at = now() - interval '1 s',
                   lease_token = lease_token + 7
            """
        )
        eventually(lambda: tiny.row(request)["attempt"] == 2)
        assert len(worker.loop.hand) == 2
        eventually(lambda: [one.lease.attempt for one in worker.loop.hand.to_extend()] == [2])
        first.set()
        eventually(lambda: len(worker.loop.hand) == 1)
        until = tiny.row(request)["lease_expires_at"]
        eventually(lambda: tiny.row(request)["lease_expires_at"] > until)  # still kept alive
        second.set()
        assert tiny.await_ends([request]) == {"SUCCESS": 1}
    assert tiny.row(request)["result"] == {"attempt": 2}
    assert tiny.trail(request).count("stale_write_rejected") == 1
    assert tiny.broken_trails() == []


# -- passing faults


@pytest.mark.usefixtures("impatient")
def test_a_passing_fault_is_retried_to_the_end(tiny: Tiny) -> None:
    tried = Counter[UUID]()

    def act(lease: Lease, _: Attempt) -> Outcome:
        tried[lease.correlation_id] += 1
        return Retry(error_class="THROTTLED", code="Throttling", message="slow down")

    ids = tiny.submit(3)
    with tiny.working({"noop": Act(do=act)}):
        assert tiny.await_ends(ids) == {"FAILED": 3}
    assert tried == dict.fromkeys(ids, 5)
    row = tiny.row(ids[0])
    assert row["error"] == {
        "class": "RETRIES_EXHAUSTED",
        "code": "Throttling",
        "message": "given up after 5 tries; the last one: slow down",
        "retryable": False,
    }
    assert (row["attempt"], row["retries"]) == (5, 4)
    again = ["PENDING>IN_PROGRESS", "IN_PROGRESS>PENDING"] * 4
    assert tiny.trail(ids[0]) == ["created", *again, "PENDING>IN_PROGRESS", "IN_PROGRESS>FAILED"]


def test_the_first_retry_is_made_at_once(tiny: Tiny) -> None:
    def act(lease: Lease, attempt: Attempt) -> Outcome:
        if lease.attempt == 1:
            return Retry(error_class="THROTTLED", code="Throttling", message="slow down")
        return done(lease, attempt)

    ids = tiny.submit(5)
    with tiny.working({"noop": Act(do=act)}):
        tiny.await_ends(ids)
    for request in ids:
        [(took,)] = tiny.superuser.execute(
            """
            SELECT max(at) FILTER (WHERE to_status = 'IN_PROGRESS')
                   - max(at) FILTER (WHERE to_status = 'PENDING' AND event = 'moved')
              FROM csb_app.csb_requests_audit
             WHERE correlation_id = %s
            """,
            (request,),
        ).fetchall()
        assert took < timedelta(seconds=1)


def test_a_wait_that_the_other_side_asks_for_is_kept(tiny: Tiny) -> None:
    def act(lease: Lease, attempt: Attempt) -> Outcome:
        if lease.attempt == 1:
            asked = timedelta(seconds=1.2)
            return Retry(error_class="THROTTLED", code="x", message="x", after=asked)
        return done(lease, attempt)

    [request] = tiny.submit()
    with tiny.working({"noop": Act(do=act)}):
        tiny.await_ends([request])
    row = tiny.row(request)
    assert 1.2 <= (row["finished_at"] - row["started_at"]).total_seconds() < 4


def test_what_is_unfinished_costs_no_try_and_remembers_where_it_was(tiny: Tiny) -> None:
    seen: list[Json | None] = []

    def act(lease: Lease, attempt: Attempt) -> Outcome:
        seen.append(lease.checkpoint)
        step = (lease.checkpoint or {"step": 0})["step"] + 1
        if step < 7:
            return Unfinished(checkpoint={"step": step}, after=timedelta(milliseconds=20))
        return done(lease, attempt)

    [request] = tiny.submit()
    with tiny.working({"noop": Act(do=act)}):
        assert tiny.await_ends([request]) == {"SUCCESS": 1}
    assert seen == [None, *({"step": n} for n in range(1, 7))]
    row = tiny.row(request)
    assert (row["attempt"], row["retries"], row["error"]) == (7, 0, None)


def test_a_checkpoint_is_kept_before_the_effect_that_needs_it(tiny: Tiny) -> None:
    kept: list[Json | None] = []

    def act(lease: Lease, attempt: Attempt) -> Outcome:
        kept.append(lease.checkpoint)
        if lease.checkpoint is None:
            attempt.checkpoint({"before": ["policy"]})
            assert tiny.row(lease.correlation_id)["checkpoint"] == {"before": ["policy"]}
            raise RuntimeError(SECRET)
        return done(lease, attempt)

    [request] = tiny.submit()
    with tiny.working({"noop": Act(do=act)}):
        assert tiny.await_ends([request]) == {"SUCCESS": 1}
    assert kept == [None, {"before": ["policy"]}]


@pytest.mark.usefixtures("impatient")
def test_a_crash_is_retried_and_its_text_stays_with_us(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    def act(lease: Lease, attempt: Attempt) -> Outcome:
        if lease.attempt == 1:
            raise RuntimeError(SECRET)
        if lease.attempt == 2:
            assert tiny.row(lease.correlation_id)["error"]["code"] == "action_crashed"
            raise SystemExit(SECRET)
        return done(lease, attempt)

    [request] = tiny.submit()
    with tiny.working({"noop": Act(do=act)}):
        assert tiny.await_ends([request]) == {"SUCCESS": 1}
    everything = tiny.superuser.execute(
        "SELECT r::text, a::text FROM csb_app.csb_requests r"
        "  JOIN csb_app.csb_requests_audit a USING (correlation_id)"
    ).fetchall()
    assert SECRET not in str(everything)
    assert SECRET in caplog.text  # operators do read it


# -- our own configuration


def test_our_own_faulty_configuration_burns_no_request_and_is_said(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executing, "CONFIGURATION_WAIT", timedelta(seconds=0.3))
    monkeypatch.setattr(fitness, "EVERY_SECONDS", 0.1)
    faulty = threading.Event()

    def probe() -> None:
        if faulty.is_set():
            raise ConfigurationError("AWS_ACCESS_KEY_ID: refused")

    def act(lease: Lease, attempt: Attempt) -> Outcome:
        probe()
        return done(lease, attempt)

    worker = tiny.worker({"noop": Act(do=act)}, probe=probe)
    worker.start()
    try:
        eventually(lambda: _ask(worker, "/ready")[0] == 200)
        faulty.set()
        ids = tiny.submit(20)
        eventually(lambda: _ask(worker, "/ready")[0] == 503)
        _, body = _ask(worker, "/ready")
        assert orjson.loads(body)["checks"]["configuration"] == "AWS_ACCESS_KEY_ID: refused"
        time.sleep(1)
        assert tiny.statuses()["FAILED"] == tiny.statuses()["SUCCESS"] == 0
        faulty.clear()
        assert tiny.await_ends(ids) == {"SUCCESS": 20}
        eventually(lambda: _ask(worker, "/ready")[0] == 200)
    finally:
        worker.stop()
    rows = [tiny.row(request) for request in ids]
    assert {row["retries"] for row in rows} == {0}
    assert {row["checkpoint"] for row in rows} == {None}


# -- ends that PostgreSQL refuses


@contextmanager
def _refusing(tiny: Tiny, condition: str) -> Iterator[None]:
    """PostgreSQL refuses rows of which this holds."""
    tiny.superuser.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'data_exception'; END $$
        """
    )
    try:
        tiny.superuser.execute(
            sql.SQL(
                "CREATE TRIGGER refuse BEFORE UPDATE ON csb_app.csb_requests"
                " FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse()"
            ).format(sql.SQL(condition))
        )
        yield
    finally:
        tiny.superuser.execute("DROP FUNCTION refuse CASCADE")


def test_an_end_that_postgresql_refuses_fails_its_request_and_harms_no_other(tiny: Tiny) -> None:
    actions = {"noop": Act(do=done), "odd": always(Succeeded(result={"odd": 1}, changed=True))}
    odd, ids = tiny.submit(1, "odd", ring=False), tiny.submit(12, ring=False)
    tiny.push(*(tiny.message(request) for request in [*ids[:6], *odd, *ids[6:]]))
    before = counted("csb_requests_recorded_total", provider=PROVIDER, status="FAILED")
    with _refusing(tiny, "NEW.result ? 'odd'"), tiny.working(actions):
        assert tiny.await_ends([*odd, *ids]) == {"SUCCESS": 12, "FAILED": 1}
        more = tiny.submit(5)
        assert tiny.await_ends(more) == {"SUCCESS": 5}
    assert tiny.row(odd[0])["error"]["code"] == "result_unstorable"
    assert counted("csb_requests_recorded_total", provider=PROVIDER, status="FAILED") == before + 1


def test_where_nothing_at_all_can_be_recorded_the_others_are_recorded_first(tiny: Tiny) -> None:
    """The process then ends; what it could not record is rescued, and not executed by it again."""
    ids = tiny.submit(3)
    worker = tiny.worker()
    worker.pool.wait()
    batch = [
        (Holding(lease=lease, expires=math.inf, due=math.inf), make_end(lease))
        for lease in tiny.claim(*ids, worker=worker.loop.worker)
    ]
    refused = batch[0][1].correlation_id
    with _refusing(tiny, f"NEW.correlation_id = '{refused}'"), pytest.raises(StoreRejected):
        recorder.record(batch, worker.pool, PROVIDER, worker=worker.loop.worker)
    assert tiny.statuses() == {"SUCCESS": 2, "IN_PROGRESS": 1}
    assert tiny.status(refused) is Status.IN_PROGRESS
    worker.pool.close()


def test_two_attempts_of_one_request_in_a_batch_are_told_apart(tiny: Tiny) -> None:
    """After an outage both may end in the same turn; only the latest claim's end is written."""
    [request] = tiny.submit()
    worker = tiny.worker()
    worker.pool.wait()
    [first] = tiny.claim(request, worker="w1")
    tiny.expire(request)
    worker.rescuer.run_once()
    [second] = tiny.claim(request, worker="w1")
    batch = [
        (
            Holding(lease=lease, expires=math.inf, due=math.inf),
            make_end(
                lease,
                result={"by": lease.token},
                refs=(Ref(type="t", value=str(lease.token), service="s", operation="o"),),
            ),
        )
        for lease in (second, first)
    ]
    recorded = recorder.record(batch, worker.pool, PROVIDER, worker="w1")
    assert set(recorded) == {request}
    assert tiny.row(request)["result"] == {"by": 2}
    assert tiny.refs(request) == [(2, "2")]
    assert tiny.trail(request)[-2:] == ["IN_PROGRESS>SUCCESS", "stale_write_rejected"]
    worker.pool.close()


@pytest.mark.parametrize("status", [Status.PENDING, Status.SUCCESS])
def test_what_the_rescuer_has_taken_back_is_not_taken_for_our_own(
    tiny: Tiny, status: Status
) -> None:
    """The token is still ours then; whose move it was tells the difference."""
    [request] = tiny.submit()
    worker = tiny.worker()
    worker.pool.wait()
    [lease] = tiny.claim(request, worker="w1")
    tiny.expire(request)
    worker.rescuer.run_once()
    wait = timedelta() if status is Status.PENDING else None
    item = (
        Holding(lease=lease, expires=math.inf, due=math.inf),
        make_end(lease, status=status, wait=wait),
    )
    assert recorder.record([item], worker.pool, PROVIDER, worker="w1") == {}
    assert tiny.status(request) is Status.PENDING
    assert tiny.trail(request)[-1] == "stale_write_rejected"
    worker.pool.close()


# -- requests that lose their workers


def test_what_has_lost_workers_is_executed_alone_and_the_others_go_on(tiny: Tiny) -> None:
    together: list[int] = []
    running = 0
    lock = threading.Lock()

    def act(lease: Lease, attempt: Attempt) -> Outcome:
        nonlocal running
        with lock:
            running += 1
            together.append(running if lease.action == "suspect" else 0)
        time.sleep(0.05)
        with lock:
            running -= 1
        return done(lease, attempt)

    suspects = tiny.submit(4, "suspect", ring=False)
    tiny.superuser.execute("UPDATE csb_app.csb_requests SET losses = %s", (LOSSES_BEFORE_ALONE,))
    innocents = tiny.submit(40, ring=False)
    mixed = [*innocents[:20], *suspects, *innocents[20:]]
    tiny.push(*(tiny.message(request) for request in mixed))
    with tiny.working({"noop": Act(do=act), "suspect": Act(do=act)}):
        assert tiny.await_ends(mixed, within=20) == {"SUCCESS": 44}
        more = tiny.submit(10)
        assert tiny.await_ends(more) == {"SUCCESS": 10}
    assert sorted(together)[-4:] == [1, 1, 1, 1]


def test_a_process_does_not_stay_closed_for_what_another_has_taken(tiny: Tiny) -> None:
    """One suspect is rung everywhere; it must not keep a fleet from working."""
    gate = Gate()
    slow = tiny.submit(1, "slow")
    with tiny.working({"slow": Act(do=gate), "noop": Act(do=done)}) as worker:
        eventually(lambda: gate.begun[slow[0]])
        [suspect] = tiny.submit(1, "elsewhere", ring=False)
        tiny.superuser.execute(
            "UPDATE csb_app.csb_requests SET losses = 2 WHERE correlation_id = %s", (suspect,)
        )
        tiny.push(tiny.message(suspect))
        eventually(lambda: worker.loop.lonely and worker.loop.slots.busy == 1)
        later = tiny.submit(3)
        time.sleep(0.5)
        assert tiny.statuses() == {"IN_PROGRESS": 1, "PENDING": 4}  # closed, for good reason

        tiny.claim(suspect, worker="another", alone=True)
        assert tiny.await_ends(later) == {"SUCCESS": 3}
        assert tiny.status(slow[0]) is Status.IN_PROGRESS
        gate.open.set()
        tiny.await_ends(slow)


def test_a_lone_claim_that_postgresql_does_not_answer_is_made_again(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 3
    claim = leases.claim

    def unavailable(*args: Any, alone: bool = False, **more: Any) -> Any:
        nonlocal failures
        if alone and failures:
            failures -= 1
            raise StoreUnavailable("away")
        return claim(*args, alone=alone, **more)

    monkeypatch.setattr(leases, "claim", unavailable)
    ids = tiny.submit(1, ring=False)
    tiny.superuser.execute("UPDATE csb_app.csb_requests SET losses = %s", (LOSSES_BEFORE_ALONE,))
    tiny.push(tiny.message(ids[0]))
    with tiny.working():
        assert tiny.await_ends(ids) == {"SUCCESS": 1}
        assert failures == 0
        ids = tiny.submit(10)
        assert tiny.await_ends(ids) == {"SUCCESS": 10}


# -- the end of a process


def test_at_the_end_what_is_in_hand_is_finished_and_what_was_popped_goes_back(tiny: Tiny) -> None:
    gate = Gate()
    ids = tiny.submit(20)
    with tiny.working({"noop": Act(do=gate)}, slots=4, tenant_portion=1) as worker:
        eventually(lambda: len(gate.begun) == 4)
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        eventually(worker.loop.stop.is_set)
        time.sleep(0.5)
        assert stopping.is_alive()  # it waits for what is in hand
        gate.open.set()
        stopping.join(10)
        assert not stopping.is_alive()
    assert tiny.statuses() == {"SUCCESS": 4, "PENDING": 16}
    assert tiny.depth() == 16
    assert {tiny.row(request)["attempt"] for request in ids} == {0, 1}
    with tiny.working():
        assert tiny.await_ends(ids) == {"SUCCESS": 20}


def test_an_idle_worker_takes_what_comes_without_a_deal(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needless(*_: Any, **__: Any) -> Any:
        raise AssertionError("nobody is passed over when nothing else stands or is held")

    worker = tiny.worker()
    worker.pool.wait()
    doorman = threading.Thread(target=worker.intake.doorman.run)
    doorman.start()
    assert worker.intake.run_once(8) == []  # and the next time it waits
    monkeypatch.setattr(Queue, "deal", needless)
    [request] = tiny.submit(1)
    [message] = worker.intake.run_once(8)
    assert decode(message).correlation_id == request
    assert worker.intake.doorman.dismiss() is None
    doorman.join(5)
    assert not doorman.is_alive()
    worker.pool.close()


def test_what_postgresql_does_not_let_us_claim_goes_back_in_order(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    tiny.submit(3)
    standing = tiny.standing()
    worker = tiny.worker(tenant_portion=1)
    worker.pool.wait()
    monkeypatch.setattr(leases, "claim", unavailable)
    assert worker.loop.slots.take() == 8
    with pytest.raises(StoreUnavailable):
        worker.loop.turn(worker.intake.run_once(2), [])
    assert tiny.standing() == standing
    assert worker.loop.slots.busy == 6
    worker.pool.close()


def test_what_arrives_while_a_worker_ends_goes_back_in_order(tiny: Tiny) -> None:
    """The last pop may bring something after the stop: it is another's then, and at its place."""
    tiny.submit(3)
    standing = tiny.standing()
    worker = tiny.worker(tenant_portion=1)
    worker.pool.wait()
    worker.loop.stop.set()
    popped = worker.intake.run_once(2)
    assert worker.loop.slots.take() == 8
    worker.loop.turn(popped, [])
    assert tiny.standing() == standing
    assert worker.loop.slots.busy == 6
    assert tiny.statuses() == {"PENDING": 3}
    worker.pool.close()


def test_a_worker_that_was_stopped_leaves_nothing_behind(tiny: Tiny) -> None:
    with tiny.working() as worker:
        tiny.await_ends(tiny.submit(5))
    assert worker.pool.closed
    assert worker.ended.is_set()
    eventually(
        lambda: (
            not [
                thread
                for thread in threading.enumerate()
                if thread.name in ("loop", "intake", "heartbeat", "rescuer") and thread.is_alive()
            ]
        )
    )


# -- its probes


def _ask(worker: WorkerProcess, path: str, port: str | None = None) -> tuple[int, bytes]:
    said: list[str] = []

    def start_response(status: str, _headers: list[tuple[str, str]]) -> None:
        said.append(status)

    own = worker.settings.bind.rpartition(":")[2]
    body = b"".join(worker({"PATH_INFO": path, "SERVER_PORT": port or own}, start_response))
    return int(said[0].split()[0]), body


def test_probes_tell_how_it_stands(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    with tiny.working() as worker:
        tiny.await_ends(tiny.submit(3))
        assert _ask(worker, "/health") == (200, b'{"status":"ok"}\n')
        status, body = _ask(worker, "/ready")
        assert (status, set(orjson.loads(body)["checks"].values())) == (200, {"ok"})
        metrics_port = worker.settings.metrics_bind.rpartition(":")[2]
        status, body = _ask(worker, "/metrics", metrics_port)
        assert status == 200
        assert b'csb_queue_depth{provider="tiny"} 0.0' in body
        assert _ask(worker, "/metrics")[0] == 404  # not on the probes' listener
        assert _ask(worker, "/api")[0] == 404

    assert _ask(worker, "/ready")[0] == 503
    monkeypatch.setattr(worker.loop, "last_turn", time.monotonic() - 3600)
    assert _ask(worker, "/health") == (503, b'{"status":"stuck"}\n')


def test_a_worker_whose_connections_are_all_lent_is_busy_and_not_down(tiny: Tiny) -> None:
    worker = tiny.worker(pool_min=1, pool_max=1)
    try:
        with worker.pool.connection():
            status, body = _ask(worker, "/ready")
        assert (status, orjson.loads(body)["status"]) == (200, "degraded")
        assert orjson.loads(body)["checks"]["postgresql"] == "busy"
        assert orjson.loads(_ask(worker, "/ready")[1])["status"] == "ready"
    finally:
        worker.pool.close()


def test_a_worker_without_its_servers_is_not_ready_and_says_why(tiny: Tiny) -> None:
    nowhere = "redis://127.0.0.1:1"
    worker = tiny.worker(
        database_url="postgresql://nobody@127.0.0.1:1/none", redis_url=nowhere, pool_min=0
    )
    try:
        status, body = _ask(worker, "/ready")
        checks = orjson.loads(body)["checks"]
        assert status == 503
        assert checks["postgresql"] != "ok"
        assert checks["redis"] != "ok"
        assert "127.0.0.1" not in body.decode()
        assert _ask(worker, "/health")[0] == 200  # a restart would mend nothing
    finally:
        worker.pool.close()


def test_statuses_in_the_cache_are_dropped_at_each_move(tiny: Tiny) -> None:
    gate = Gate()
    [request] = tiny.submit()
    name = keys.status(request)
    tiny.redis.set(name, b"PENDING, says the cache")
    with tiny.working({"noop": Act(do=gate)}):
        eventually(lambda: tiny.redis.get(name) is None)
        tiny.redis.set(name, b"IN_PROGRESS, says the cache")
        gate.open.set()
        tiny.await_ends([request])
        eventually(lambda: tiny.redis.get(name) is None)


def test_moves_that_redis_does_not_take_are_told_later(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = threading.Event()
    away.set()
    forget = StatusCache.forget

    def unavailable(self: StatusCache, moved: Any) -> None:
        if away.is_set():
            raise CacheUnavailable("away")
        forget(self, moved)

    monkeypatch.setattr(StatusCache, "forget", unavailable)
    [request] = tiny.submit()
    name = keys.status(request)
    tiny.redis.set(name, b"PENDING, says the cache")
    with tiny.working() as worker:
        tiny.await_ends([request])
        assert worker.express.unforgotten
        away.clear()
        eventually(lambda: tiny.redis.get(name) is None and not worker.loop.unforgotten)
