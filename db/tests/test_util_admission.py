"""Which executions are accepted: of what, for whom, in which state."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from db.tests import plans
from db.tests.world import acting, carry_out, content, draft, submit

from csb_core import keys, requests, util_shares, util_status, util_store
from csb_core.models import Draft
from csb_core.states import Status
from csb_core.testing import (
    Database,
    as_tenant,
    make_api_key,
    make_tenant,
    make_util,
    make_util_draft,
)
from csb_core.util_models import Permission

INVALID = {"is_valid": False, "validation_errors": [{"rule": "R"}], "security_score": 100}
POOR = {"is_valid": True, "validation_errors": [], "security_score": 40}
TESTS = [{"name": "one", "input": 1, "expected": 1}]


@pytest.fixture
def util(shared: Database, tenant: UUID) -> UUID:
    """An active util."""
    return make_util(shared.api, tenant)


def _outcome(database: Database, one: Draft) -> str:
    with acting(database, "csb_api_user") as conn:
        return requests.insert(conn, [one])[0].outcome


@pytest.mark.parametrize(
    ("permission", "runs"),
    [(None, False), ("read", False), ("execute", True), ("edit", True)],
)
@pytest.mark.parametrize("action", ["run_util", "test_util"])
def test_another_tenant_runs_a_util_when_it_may(
    shared: Database,
    tenant: UUID,
    util: UUID,
    permission: Permission | None,
    runs: bool,  # noqa: FBT001 - a column of the table above
    action: str,
) -> None:
    other = make_tenant(shared.admin)
    if permission:
        with as_tenant(shared.api, tenant) as conn:
            util_shares.share(conn, util, other, permission=permission, by="k")
    one = make_util_draft(shared.api, tenant, util, action=action)
    theirs = draft(other, "sandbox", payload=one.payload, util=one.util)
    assert _outcome(shared, theirs) == ("created" if runs else "util_not_found")


def test_a_share_with_a_key_lets_that_key_run_it_among_others_of_one_call(
    shared: Database, tenant: UUID, util: UUID
) -> None:
    other = make_tenant(shared.admin)
    key, another = (keys.key_id_of(make_api_key(shared.admin, other)) for _ in range(2))
    with as_tenant(shared.api, tenant) as conn:
        util_shares.share(conn, util, key, permission="execute", by="k")
    pin = make_util_draft(shared.api, tenant, util).util
    by = {name: draft(other, "sandbox", util=pin, requested_by=name) for name in (key, another)}
    stolen = draft(tenant, "sandbox", util=pin, requested_by=key)  # the owner needs no share
    third = draft(make_tenant(shared.admin), "sandbox", util=pin, requested_by=key)
    with acting(shared, "csb_api_user") as conn:
        answers = requests.insert(conn, [*by.values(), stolen, third])
    assert [a.outcome for a in answers] == [
        "created",
        "util_not_found",
        "created",
        "util_not_found",
    ]


@pytest.mark.parametrize(
    ("made", "advisory", "run", "test"),
    [
        ({}, False, "created", "created"),
        ({"active": False}, False, "util_not_active", "created"),
        ({"active": False}, True, "util_not_active", "created"),
        ({"test_cases": TESTS}, False, "util_not_active", "created"),
        ({"validation": INVALID}, False, "util_not_active", "util_not_active"),
        ({"validation": INVALID}, True, "util_not_active", "created"),
        ({"validation": INVALID, "advisory": True}, True, "created", "created"),
        ({"validation": INVALID, "advisory": True}, False, "util_not_active", "util_not_active"),
    ],
)
def test_what_runs_is_active_and_valid_or_advised_to_run(
    shared: Database,
    tenant: UUID,
    made: dict[str, Any],
    advisory: bool,  # noqa: FBT001 - a column of the table above
    run: str,
    test: str,
) -> None:
    util = make_util(shared.api, tenant, **made)
    for action, wanted in (("run_util", run), ("test_util", test)):
        one = make_util_draft(shared.api, tenant, util, action=action, advisory=advisory)
        assert _outcome(shared, one) == wanted, action


def test_a_tenant_says_how_good_a_util_must_be(shared: Database, tenant: UUID) -> None:
    util = make_util(shared.api, tenant, validation=POOR)
    one = make_util_draft(shared.api, tenant, util)
    with acting(shared, "csb_admin_user") as conn:
        for least, wanted in ((41, "util_not_active"), (40, "created")):
            conn.execute(
                "UPDATE csb_app.csb_tenants SET util_min_security_score = %s WHERE tenant_id = %s",
                (least, tenant),
            )
            assert _outcome(shared, one) == wanted


@pytest.mark.parametrize(
    "wrong",
    [{"digest": "0" * 64}, {"version": 2}, {"util_id": uuid4()}],
    ids=["digest", "version", "id"],
)
def test_a_pin_names_a_version_that_is_there(
    shared: Database, tenant: UUID, util: UUID, wrong: dict[str, Any]
) -> None:
    one = make_util_draft(shared.api, tenant, util)
    assert one.util is not None
    fields = {name: getattr(one.util, name) for name in one.util.__slots__}
    pin = type(one.util)(**{**fields, **wrong})
    assert _outcome(shared, draft(tenant, "sandbox", util=pin)) == "util_not_found"


def test_a_deleted_util_is_not_found(shared: Database, tenant: UUID, util: UUID) -> None:
    one = make_util_draft(shared.api, tenant, util)
    with as_tenant(shared.api, tenant) as conn:
        util_status.delete(conn, util, by="k")
    assert _outcome(shared, one) == "util_not_found"


def test_a_version_that_is_not_the_active_one_runs_once_it_was_tested(
    shared: Database, tenant: UUID, util: UUID
) -> None:
    with as_tenant(shared.api, tenant) as conn:
        head = util_store.seen(conn, util)
        tested = content(code="other", test_cases=TESTS)
        head = util_store.update(conn, head, content=tested, by="k")
    assert (head.version, head.active_version) == (2, 1)
    assert _outcome(shared, make_util_draft(shared.api, tenant, util, 1)) == "created"
    new = make_util_draft(shared.api, tenant, util, 2)
    assert _outcome(shared, new) == "util_not_active"

    carry_out(
        shared, make_util_draft(shared.api, tenant, util, 2, action="test_util"), Status.FAILED
    )
    assert _outcome(shared, new) == "util_not_active"
    carry_out(shared, make_util_draft(shared.api, tenant, util, 2, action="test_util"))
    assert _outcome(shared, new) == "created"


def test_what_was_accepted_stays_accepted(shared: Database, tenant: UUID, util: UUID) -> None:
    one = make_util_draft(shared.api, tenant, util, client_request_id="K")
    submit(shared, one)
    with as_tenant(shared.api, tenant) as conn:
        util_status.deactivate(conn, util, by="k")
    again = make_util_draft(shared.api, tenant, util, client_request_id="K")
    assert _outcome(shared, again) == "exists"
    other = make_util_draft(shared.api, tenant, util, client_request_id="K", input=2)
    assert _outcome(shared, other) == "conflict"


def test_an_item_that_is_refused_harms_no_other(shared: Database, tenant: UUID, util: UUID) -> None:
    inactive = make_util(shared.api, tenant, active=False)
    elsewhere = make_util(shared.api, make_tenant(shared.admin))
    drafts = [
        make_util_draft(shared.api, tenant, util),
        make_util_draft(shared.api, tenant, inactive),
        draft(tenant),
        make_util_draft(shared.api, tenant, elsewhere),
        draft(tenant, account_id="999999999999"),
        make_util_draft(shared.api, tenant, util),
    ]
    with acting(shared, "csb_api_user") as conn:
        answers = requests.insert(conn, drafts)
    assert [answer.outcome for answer in answers] == [
        "created",
        "util_not_active",
        "created",
        "util_not_found",
        "account_not_registered",
        "created",
    ]


def test_a_request_without_a_util_is_accepted_without_a_look_at_any(
    shared: Database, tenant: UUID
) -> None:
    """The price of utils is not paid by what is none."""
    tables = ("csb_utils", "csb_util_versions", "csb_util_shares")
    one = make_util_draft(shared.api, tenant, make_util(shared.api, tenant))
    with acting(shared, "csb_api_user") as conn, conn.transaction(force_rollback=True):
        for _ in range(8):
            requests.insert(conn, [draft(tenant), draft(tenant, account_id="999999999999")])
        assert sum(plans.rows_read(conn, table) for table in tables) == 0
        requests.insert(conn, [one])
        assert sum(plans.rows_read(conn, table) for table in tables) > 0
