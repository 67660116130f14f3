"""The way of an execution: a pin is accepted, claimed, and opens one look at one version."""

from __future__ import annotations

from uuid import UUID

from db.tests.world import acting, claim

from csb_core import claimed_utils, requests
from csb_core.testing import Database, make_util, make_util_draft


def test_thin(shared: Database, tenant: UUID) -> None:
    util_id = make_util(shared.api, tenant)
    one = make_util_draft(shared.api, tenant, util_id)
    with acting(shared, "csb_api_user") as conn:
        [answer] = requests.insert(conn, [one])
        assert answer.outcome == "created"
        got = requests.get(conn, tenant, one.correlation_id)
        assert got is not None
        assert got.util == one.util
    with acting(shared, "csb_sandbox_user") as conn:
        assert claimed_utils.fetch(conn, one.correlation_id, 0) is None
        lease = claim(conn, one)
        assert lease.util == one.util
        code = claimed_utils.fetch(conn, one.correlation_id, lease.token)
        assert code is not None
        assert code.code.startswith("def transform")
