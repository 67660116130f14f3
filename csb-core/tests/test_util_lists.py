"""Lists of utils, shares and rules, and the one look that an execution is decided on."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from csb_core import (
    util_ceilings,
    util_executions,
    util_rules,
    util_search,
    util_shares,
    util_store,
    util_versions,
)
from csb_core.errors import Conflict, NotFound
from csb_core.models import UtilLimits
from csb_core.testing import Database, as_tenant, make_tenant, make_util
from csb_core.util_models import About, Ceilings, Content, Util
from csb_core.util_search import Edge, Filters

INVALID = {"is_valid": False, "validation_errors": [{"rule": "R"}], "security_score": 10}
TESTS = [{"name": "one", "input": 1, "expected": 1}]


@pytest.fixture
def tenant(database: Database) -> UUID:
    return make_tenant(database.admin)


def _content(**more: Any) -> Content:
    return Content(
        **{
            "code": "def transform(data):\n    return data\n",
            "parameters": {"input_schema": {"type": "object"}, "dependencies": []},
            "execution_config": {"timeout_seconds": 5, "memory_limit_mb": 64, "cpu_limit": 0.5},
            "validation": {"is_valid": True, "validation_errors": [], "security_score": 80},
            **more,
        }
    )


def _create(database: Database, tenant: UUID, name: str = "one", **more: Any) -> Util:
    options = {key: more.pop(key) for key in ("active", "advisory") if key in more}
    about = About(
        name=name,
        description=more.pop("description", ""),
        category=more.pop("category", None),
        tags=more.pop("tags", ()),
    )
    kind = more.pop("kind", "transformer")
    with as_tenant(database.api, tenant) as conn:
        return util_store.create(conn, about, _content(**more), kind=kind, by="key", **options)


def test_filters_narrow_and_pages_follow_each_other(database: Database, tenant: UUID) -> None:
    made = [
        _create(database, tenant, "parse CSV", tags=("csv",), category="parsing"),
        _create(database, tenant, "100%_sure", description="A Script", kind="script"),
        _create(database, tenant, "defang", tags=("ioc", "text"), active=False),
    ]
    lent = _create(database, make_tenant(database.admin), "lent", tags=("csv",))
    with as_tenant(database.api, lent.tenant_id) as conn:
        util_shares.share(conn, lent.util_id, tenant, permission="read", by="k")
    csv, script, inactive = (one.util_id for one in made)
    cases: list[tuple[Filters, set[UUID]]] = [
        (Filters(), {csv, script, inactive, lent.util_id}),
        (Filters(tag="csv"), {csv, lent.util_id}),
        (Filters(tag="csv", shared=False), {csv}),
        (Filters(shared=True), {lent.util_id}),
        (Filters(status="inactive"), {inactive}),
        (Filters(status="deleted"), set()),
        (Filters(kind="script"), {script}),
        (Filters(category="parsing"), {csv}),
        (Filters(q="csv"), {csv}),
        (Filters(q="a script"), {script}),
        (Filters(q="%"), {script}),
        (Filters(q="_"), {script}),
        (Filters(q="\\"), set()),
    ]
    with as_tenant(database.api, tenant) as conn:
        for filters, wanted in cases:
            found = util_search.list_page(conn, filters, limit=10)
            assert {one.util_id for one in found} == wanted, filters
            assert util_search.count(conn, filters) == len(wanted)
        whole = util_search.list_page(conn, Filters(), limit=10)
        by_offset = [util_search.list_page(conn, Filters(), limit=1, offset=n)[0] for n in range(4)]
        assert by_offset == whole
        edge, by_edge = None, []
        while page := util_search.list_page(conn, Filters(), limit=1, after=edge):
            by_edge += page
            edge = Edge(updated_at=page[-1].updated_at, util_id=page[-1].util_id)
    assert by_edge == whole
    assert [one.updated_at for one in whole] == sorted(
        (one.updated_at for one in whole), reverse=True
    )


def test_an_execution_is_decided_on_one_look(database: Database, tenant: UUID) -> None:
    util, other = _create(database, tenant), make_tenant(database.admin)
    with as_tenant(database.api, tenant) as conn:
        util_store.update(conn, util, content=_content(code="2", test_cases=TESTS), by="k")
        util_shares.share(conn, util.util_id, other, permission="execute", by="k")
    with psycopg.connect(database.admin) as conn:
        util_ceilings.change(conn, other, {"timeout_seconds": 2.5, "running": 3})
    with as_tenant(database.api, other) as conn:
        active = util_executions.resolve(conn, util.util_id)
        newest = util_executions.resolve(conn, util.util_id, 2)
        missing = util_executions.resolve(conn, util.util_id, 3)
        assert util_executions.resolve(conn, uuid4()) is None
        assert active is not None
        assert newest is not None
        assert missing is not None
        assert active.version == util_versions.get(conn, util.util_id, 1)
        assert newest.version == util_versions.get(conn, util.util_id, 2)
        assert active.util == util_store.seen(conn, util.util_id)
        assert active.ceilings == util_ceilings.of(conn, other)  # the caller's, not the owner's
        with pytest.raises(NotFound):
            util_ceilings.of(conn, tenant)
    assert missing.version is None
    assert active.ceilings == Ceilings(
        timeout_seconds=2.5, memory_limit_mb=512, cpu_limit=1.0, security_score=0
    )
    wanted = UtilLimits(timeout_seconds=30.0, memory_limit_mb=64, cpu_limit=2.0)
    assert active.ceilings.within(wanted) == UtilLimits(
        timeout_seconds=2.5, memory_limit_mb=64, cpu_limit=1.0
    )


def test_sharing_again_changes_what_for(database: Database, tenant: UUID) -> None:
    util_id, other = make_util(database.api, tenant), make_tenant(database.admin)
    with as_tenant(database.api, tenant) as conn:
        first = util_shares.share(conn, util_id, other, permission="read", by="k")
        again = util_shares.share(conn, util_id, other, permission="edit", by="k")
        assert (again.share_id, again.permission) == (first.share_id, "edit")
        assert util_shares.list_of(conn, util_id) == [again]
        with pytest.raises(Conflict):
            util_shares.share(conn, util_id, tenant, permission="read", by="k")
        with pytest.raises(NotFound):
            util_shares.unshare(conn, util_id, uuid4())
        util_shares.unshare(conn, util_id, first.share_id)
        with pytest.raises(NotFound):
            util_shares.unshare(conn, util_id, first.share_id)
    with as_tenant(database.api, other) as conn, pytest.raises(NotFound):
        util_shares.list_of(conn, util_id)


def test_rules_are_a_tenants_own(database: Database, tenant: UUID) -> None:
    def put(conn: psycopg.Connection[Any], message: str) -> bool:
        _, added = util_rules.put(
            conn,
            "NO-SOCKETS",
            severity="error",
            kind="forbid_import",
            pattern="socket",
            message=message,
            by="k",
        )
        return added

    with as_tenant(database.api, tenant) as conn:
        assert put(conn, "a") is True
    with as_tenant(database.api, tenant) as conn:
        assert put(conn, "b") is False
        assert [rule.message for rule in util_rules.list_all(conn)] == ["b"]
    with as_tenant(database.api, make_tenant(database.admin)) as conn:
        assert util_rules.list_all(conn) == []
        with pytest.raises(NotFound):
            util_rules.delete(conn, "NO-SOCKETS")
    with as_tenant(database.api, tenant) as conn:
        util_rules.delete(conn, "NO-SOCKETS")
        assert util_rules.list_all(conn) == []
