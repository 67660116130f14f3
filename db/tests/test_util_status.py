"""What it takes to activate a util, and to delete one."""

from __future__ import annotations

from uuid import UUID

import pytest
from db.tests.world import acting, cancel, carry_out, claim, content, submit

from csb_core import claimed_utils, util_shares, util_status, util_store
from csb_core.db import Connection
from csb_core.errors import Conflict
from csb_core.states import Status
from csb_core.testing import (
    Database,
    as_tenant,
    make_tenant,
    make_util,
    make_util_draft,
)
from csb_core.util_models import Util

INVALID = {"is_valid": False, "validation_errors": [{"rule": "R"}], "security_score": 100}
POOR = {"is_valid": True, "validation_errors": [], "security_score": 40}
TESTS = [{"name": "one", "input": 1, "expected": 1}]


@pytest.fixture
def util(shared: Database, tenant: UUID) -> UUID:
    """An active util."""
    return make_util(shared.api, tenant)


def test_activation_needs_a_green_test_of_that_very_version(shared: Database, tenant: UUID) -> None:
    util = make_util(shared.api, tenant, test_cases=TESTS)
    other = make_util(shared.api, tenant, test_cases=TESTS)

    def activate() -> Util:
        with as_tenant(shared.api, tenant) as conn:
            return util_status.activate(conn, util, by="k")

    carry_out(
        shared, make_util_draft(shared.api, tenant, other, action="test_util")
    )  # the same code
    carry_out(shared, make_util_draft(shared.api, tenant, util, action="test_util"), Status.FAILED)
    submit(shared, make_util_draft(shared.api, tenant, util, action="test_util"))  # still waits
    with pytest.raises(Conflict, match="test"):
        activate()
    carry_out(shared, make_util_draft(shared.api, tenant, util, action="test_util"))
    assert (activate().status, activate().active_version) == ("active", 1)

    with as_tenant(shared.api, tenant) as conn:
        head = util_store.update(
            conn, activate(), content=content(code="2", test_cases=TESTS), by="k"
        )
    assert head.active_version == 1
    with pytest.raises(Conflict, match="version 2"):
        activate()


def test_a_util_is_not_deleted_while_somebody_may_count_on_it(
    shared: Database, tenant: UUID, util: UUID
) -> None:
    other = make_tenant(shared.admin)
    one = make_util_draft(shared.api, tenant, util)
    submit(shared, one)
    with as_tenant(shared.api, tenant) as conn:
        share = util_shares.share(conn, util, other, permission="read", by="k")
    with (
        as_tenant(shared.api, tenant) as conn,
        pytest.raises(Conflict, match="1 shares and 1 exec"),
    ):
        util_status.delete(conn, util, by="k")
    with acting(shared, "csb_api_user") as conn:
        cancel(conn, one)
    with (
        as_tenant(shared.api, tenant) as conn,
        pytest.raises(Conflict, match="1 shares and 0 exec"),
    ):
        util_status.delete(conn, util, by="k")
    with as_tenant(shared.api, tenant) as conn:
        util_shares.unshare(conn, util, share.share_id)
        util_status.delete(conn, util, by="k")
        assert util_store.get(conn, util) is None
    assert make_util(shared.api, tenant, name="the name") != make_util(
        shared.api, other, name="the name"
    )


def test_an_owner_does_not_learn_of_anothers_executions_by_deleting(
    shared: Database, tenant: UUID, util: UUID, sandbox: Connection
) -> None:
    other = make_tenant(shared.admin)
    with as_tenant(shared.api, tenant) as conn:
        share = util_shares.share(conn, util, other, permission="execute", by="k")
    theirs = make_util_draft(shared.api, other, util)
    submit(shared, theirs)
    with as_tenant(shared.api, tenant) as conn:
        util_shares.unshare(conn, util, share.share_id)
        util_status.delete(conn, util, by="k")
    lease = claim(sandbox, theirs)  # it was accepted, and runs what it pinned
    assert claimed_utils.fetch(sandbox, theirs.correlation_id, lease.token) is not None
