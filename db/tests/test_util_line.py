"""What a claim opens: one look at the version that the request pins, under its own token."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from db.tests.world import SERVICES, acting, carry_out, claim, content, draft, end_of, submit

from csb_core import (
    claimed_utils,
    leases,
    oversight,
    replays,
    requests,
    util_status,
    util_store,
)
from csb_core.db import Connection
from csb_core.models import UtilLimits
from csb_core.states import Status
from csb_core.testing import Database, as_tenant, make_util, make_util_draft

CODE = "def transform(data):\n    return data\n"


@pytest.fixture
def util(shared: Database, tenant: UUID) -> UUID:
    """An active util."""
    return make_util(shared.api, tenant, CODE)


def test_a_pin_travels_from_the_draft_to_the_lease_unchanged(
    shared: Database, tenant: UUID, util: UUID, sandbox: Connection
) -> None:
    limits = UtilLimits(timeout_seconds=2.5, memory_limit_mb=64, cpu_limit=0.5)
    one = make_util_draft(shared.api, tenant, util, limits=limits)
    submit(shared, one)
    with acting(shared, "csb_api_user") as conn:
        shown = requests.get(conn, tenant, one.correlation_id)
    assert shown is not None
    assert one.util is not None
    assert shown.util == one.util
    assert claim(sandbox, one).util == one.util
    assert one.util.digest == claimed_utils.code_digest(
        "transformer",
        CODE,
        {},
        {"timeout_seconds": 30, "memory_limit_mb": 128, "cpu_limit": 1.0},
    )


def test_a_request_of_another_kind_pins_nothing(shared: Database, tenant: UUID) -> None:
    one = draft(tenant)
    submit(shared, one)
    with acting(shared, "csb_aws_user") as conn:
        assert claim(conn, one).util is None


def test_the_version_in_hand_is_read_under_its_token_and_no_other(
    shared: Database, tenant: UUID, util: UUID, sandbox: Connection
) -> None:
    one = make_util_draft(shared.api, tenant, util)
    submit(shared, one)
    for token in (0, 1):
        assert claimed_utils.fetch(sandbox, one.correlation_id, token) is None  # nobody's yet
    lease = claim(sandbox, one)
    assert claimed_utils.fetch(sandbox, one.correlation_id, lease.token) == claimed_utils.UtilCode(
        kind="transformer",
        code=CODE,
        parameters={},
        execution_config={"timeout_seconds": 30, "memory_limit_mb": 128, "cpu_limit": 1.0},
        test_cases=[],
    )
    for token in (0, lease.token + 1, -1):
        assert claimed_utils.fetch(sandbox, one.correlation_id, token) is None
    assert claimed_utils.fetch(sandbox, uuid4(), lease.token) is None

    back = end_of(lease, Status.PENDING, wait=timedelta())
    leases.record(sandbox, [back], worker="rescuer")
    assert claimed_utils.fetch(sandbox, one.correlation_id, lease.token) is None
    again = claim(sandbox, one)
    assert claimed_utils.fetch(sandbox, one.correlation_id, lease.token) is None  # replaced
    assert claimed_utils.fetch(sandbox, one.correlation_id, again.token) is not None
    leases.record(sandbox, [end_of(again, Status.SUCCESS)], worker="w")
    assert claimed_utils.fetch(sandbox, one.correlation_id, again.token) is None


@pytest.mark.parametrize("role", [role for role in SERVICES if role != "csb_sandbox_user"])
def test_nobody_else_reads_by_the_sandboxs_door(
    shared: Database, tenant: UUID, util: UUID, sandbox: Connection, role: str
) -> None:
    one = make_util_draft(shared.api, tenant, util)
    submit(shared, one)
    lease = claim(sandbox, one)
    with acting(shared, role) as conn:
        try:
            assert claimed_utils.fetch(conn, one.correlation_id, lease.token) is None
            assert role == "csb_aws_user"  # another provider's worker: the door is there, and shut
        except psycopg.errors.InsufficientPrivilege:
            assert role != "csb_aws_user"


def test_what_is_pinned_is_run_whatever_became_of_the_util(
    shared: Database, tenant: UUID, util: UUID, sandbox: Connection
) -> None:
    one = make_util_draft(shared.api, tenant, util)
    submit(shared, one)
    with as_tenant(shared.api, tenant) as conn:
        head = util_store.seen(conn, util)
        changed = content(code="another")
        assert util_store.update(conn, head, content=changed, by="k").active_version == 2
        util_status.deactivate(conn, util, by="k")
    lease = claim(sandbox, one)
    code = claimed_utils.fetch(sandbox, one.correlation_id, lease.token)
    assert code is not None
    assert code.code == CODE


def test_a_replay_runs_what_the_failed_one_ran(
    shared: Database, tenant: UUID, util: UUID, sandbox: Connection
) -> None:
    one = make_util_draft(shared.api, tenant, util)
    carry_out(shared, one, Status.FAILED)
    with as_tenant(shared.api, tenant) as conn:
        head = util_store.seen(conn, util)
        util_store.update(conn, head, content=content(code="another"), by="k")
    with acting(shared, "csb_admin_user") as conn:
        failure = oversight.find_failure(conn, one.correlation_id)
        [again] = replays.drafts_of([failure], actor="grace", request_id="r")
        assert again.util == one.util
        assert requests.insert(conn, [again])[0].outcome == "created"
    assert claim(sandbox, again).util == one.util
