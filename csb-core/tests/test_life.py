"""A request's whole life, in any order of anybody's steps, against a model in a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run
from tiny import PROVIDER, Tiny, make_end

from csb_core import leases, requests, rescues
from csb_core.errors import Conflict, LeaseLost
from csb_core.models import Lease
from csb_core.states import FINAL, MOVES, Status

TTL = timedelta(seconds=600)
ENDS = (Status.SUCCESS, Status.FAILED, Status.PENDING)


@dataclass(slots=True)
class Model:
    """What the row must say."""

    status: Status = Status.PENDING
    version: int = 1
    token: int = 0
    attempt: int = 0
    losses: int = 0
    lone_losses: int = 0
    alone: bool = False
    expired: bool = False
    checkpoint: Any = None
    moves: list[str] = field(default_factory=lambda: ["created"])

    def move(self, to: Status) -> None:
        assert (self.status, to) in MOVES
        self.moves.append(f"{self.status}>{to}")
        self.status, self.version = to, self.version + 1


class Life(RuleBasedStateMachine):
    """Two workers with all the leases they ever had, a rescuer, and the tenant."""

    tiny: Tiny

    def __init__(self) -> None:
        super().__init__()
        [self.request] = self.tiny.submit(1)
        self.model = Model()
        self.had: list[Lease] = []

    @rule(worker=st.sampled_from(["w1", "w2"]), alone=st.booleans())
    def claim(self, worker: str, *, alone: bool) -> None:
        claimed = self.tiny.claim(self.request, worker=worker, alone=alone, ttl=600)
        model = self.model
        suspect = model.losses >= leases.LOSSES_BEFORE_ALONE
        if model.status is not Status.PENDING or alone is not suspect:
            assert claimed == []
            return
        [lease] = claimed
        model.move(Status.IN_PROGRESS)
        model.token, model.attempt = model.token + 1, model.attempt + 1
        model.alone, model.expired = alone, False
        assert (lease.token, lease.attempt) == (model.token, model.attempt)
        assert lease.checkpoint == model.checkpoint
        self.had.append(lease)

    def _is_good(self, lease: Lease) -> bool:
        return self.model.status is Status.IN_PROGRESS and lease.token == self.model.token

    @precondition(lambda self: self.had)
    @rule(data=st.data(), status=st.sampled_from(ENDS))
    def record(self, data: st.DataObject, status: Status) -> None:
        lease = data.draw(st.sampled_from(self.had))
        wait = timedelta() if status is Status.PENDING else None
        end = make_end(lease, status=status, wait=wait)
        recorded = leases.record(self.tiny.store, [end], worker="w")
        assert bool(recorded) is self._is_good(lease)
        if recorded:
            self.model.move(status)
            assert recorded[self.request].version == self.model.version

    @precondition(lambda self: self.had)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.had))
        kept = leases.extend(self.tiny.store, [lease.claim], ttl=TTL)
        assert kept == ({lease.claim} if self._is_good(lease) else set())
        if kept:
            self.model.expired = False

    @precondition(lambda self: self.had)
    @rule(data=st.data(), step=st.integers(0, 9))
    def keep(self, data: st.DataObject, step: int) -> None:
        lease = data.draw(st.sampled_from(self.had))
        if not self._is_good(lease):
            with pytest.raises(LeaseLost):
                self._keep(lease, step)
            return
        self._keep(lease, step)
        self.model.checkpoint, self.model.expired = {"step": step}, False

    def _keep(self, lease: Lease, step: int) -> None:
        leases.keep(
            self.tiny.store, self.request, token=lease.token, checkpoint={"step": step}, ttl=TTL
        )

    @precondition(lambda self: self.model.status is Status.IN_PROGRESS)
    @rule()
    def expire(self) -> None:
        self.tiny.expire(self.request)
        self.model.expired = True

    @rule()
    def rescue(self) -> None:
        model = self.model
        rescued = rescues.rescue(
            self.tiny.store, PROVIDER, worker="r", oldest=None, margin=TTL, room=100
        )
        mine = [one for one in rescued if one.correlation_id == self.request]
        if model.status is not Status.IN_PROGRESS or not model.expired:
            assert mine == []
            return
        model.losses += 1
        model.lone_losses += model.alone
        is_poison = model.alone and model.lone_losses >= rescues.LONE_LOSSES_BEFORE_FAILED
        model.alone = model.expired = False
        model.move(Status.FAILED if is_poison else Status.PENDING)
        assert [(one.status, one.version) for one in mine] == [(model.status, model.version)]

    @rule()
    def cancel(self) -> None:
        if len(self.model.moves) < 6:
            return  # let it live a little
        if self.model.status is not Status.PENDING:
            with pytest.raises(Conflict):
                self._cancel()
            return
        assert self._cancel() is not None
        self.model.move(Status.CANCELLED)

    def _cancel(self) -> Any:
        with psycopg.connect(self.tiny.database.api) as conn:
            conn.execute("SELECT set_config('csb.tenant_id', %s, true)", (str(self.tiny.tenant),))
            return requests.cancel(conn, self.request, actor="key")

    @invariant()
    def the_row_says_what_the_model_says(self) -> None:
        row, model = self.tiny.row(self.request), self.model
        assert {name: row[name] for name in NAMES} == {name: getattr(model, name) for name in NAMES}
        assert row["lease_token"] == model.token
        assert (row["finished_at"] is not None) is (model.status in FINAL)
        assert (row["lease_expires_at"] is not None) is (model.status is Status.IN_PROGRESS)

    def teardown(self) -> None:
        assert self.tiny.trail(self.request) == self.model.moves
        assert _tokens(self.tiny, self.request) == sorted(_tokens(self.tiny, self.request))


NAMES = ("status", "version", "attempt", "losses", "lone_losses", "alone", "checkpoint")


def _tokens(tiny: Tiny, request: UUID) -> list[int]:
    rows = tiny.superuser.execute(
        "SELECT lease_token FROM csb_app.csb_requests_audit"
        " WHERE correlation_id = %s ORDER BY audit_id",
        (request,),
    ).fetchall()
    return [row[0] for row in rows]


def test_no_order_of_steps_breaks_a_request(tiny: Tiny) -> None:
    Life.tiny = tiny
    run(
        Life,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert tiny.broken_trails() == []


@pytest.mark.slow
def test_no_long_order_of_steps_breaks_a_request(tiny: Tiny) -> None:
    Life.tiny = tiny
    run(
        Life,
        settings=settings(
            max_examples=400,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
