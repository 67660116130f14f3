"""What it takes to activate a util, and to delete one."""

from __future__ import annotations

from uuid import UUID

import pytest
from db.tests.world import acting, cancel, carry_out, claim, content, submit

from csb_core import claimed_utils, util_shares, util_status, util_store, util_versions
from csb_core.db import Connection
from csb_core.errors import Conflict, NotFound
from csb_core.models import Draft
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
    util, other = (
        make_util(shared.api, tenant, test_cases=TESTS, execution_config={}) for _ in range(2)
    )

    def activate() -> Util:
        with as_tenant(shared.api, tenant) as conn:
            return util_status.activate(conn, util, by="k")

    def test_of(util_id: UUID) -> Draft:
        return make_util_draft(shared.api, tenant, util_id, action="test_util")

    carry_out(shared, test_of(other))  # the same code and the same cases, of another util
    carry_out(shared, test_of(util), Status.FAILED)
    submit(shared, test_of(util))  # still waits
    with pytest.raises(Conflict, match="test"):
        activate()
    carry_out(shared, test_of(util))
    assert (activate().status, activate().active_version) == ("active", 1)

    with as_tenant(shared.api, tenant) as conn:
        harder = content(test_cases=[*TESTS, {"name": "two", "input": 2, "expected": 2}])
        head = util_store.update(conn, activate(), content=harder, by="k")
        first, second = (util_versions.get(conn, util, number) for number in (1, 2))
    assert first.digest == second.digest  # the same code: its tests are not of it
    assert head.active_version == 1
    with pytest.raises(Conflict, match="version 2"):
        activate()
    with as_tenant(shared.api, tenant) as conn:
        assert util_versions.rollback(conn, util, 2, by="k").active_version == 1


def test_what_was_tested_runs_again_at_once_by_a_rollback(shared: Database, tenant: UUID) -> None:
    util = make_util(shared.api, tenant, test_cases=TESTS)
    carry_out(shared, make_util_draft(shared.api, tenant, util, action="test_util"))
    with as_tenant(shared.api, tenant) as conn:
        head = util_status.activate(conn, util, by="k")
        head = util_store.update(conn, head, content=content(code="2"), by="k")
        assert head.active_version == 2
        head = util_store.update(conn, head, content=content(code="3", test_cases=TESTS), by="k")
        assert head.active_version == 2
        untested = util_versions.rollback(conn, util, 3, by="k")
        assert (untested.version, untested.active_version) == (4, 2)
        tested = util_versions.rollback(conn, util, 1, by="k")
        assert (tested.version, tested.active_version) == (5, 5)
    assert make_util_draft(shared.api, tenant, util).util is not None


def test_a_util_is_not_deleted_while_somebody_may_count_on_it(
    shared: Database, tenant: UUID, util: UUID
) -> None:
    one = make_util_draft(shared.api, tenant, util)
    submit(shared, one)

    def delete() -> None:
        with as_tenant(shared.api, tenant) as conn:
            util_status.delete(conn, util, by="k")

    with pytest.raises(Conflict, match="0 shares and 1 exec"):
        delete()
    with acting(shared, "csb_api_user") as conn:
        cancel(conn, one)
    with as_tenant(shared.api, tenant) as conn:
        grantee = make_tenant(shared.admin)
        share = util_shares.share(conn, util, grantee, permission="read", by="k")
    with pytest.raises(Conflict, match="1 shares and 0 exec"):
        delete()
    with as_tenant(shared.api, tenant) as conn:
        util_shares.unshare(conn, util, share.share_id)
    delete()
    with as_tenant(shared.api, tenant) as conn:
        assert util_store.get(conn, util) is None
        with pytest.raises(NotFound):
            util_versions.get(conn, util, 1)


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
