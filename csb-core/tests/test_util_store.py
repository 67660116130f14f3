"""The store of utils as the API uses it: heads, their versions and their status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from csb_core import (
    util_ceilings,
    util_shares,
    util_status,
    util_store,
    util_versions,
)
from csb_core.errors import Conflict, NotFound, NotPermitted, RevisionMismatch
from csb_core.testing import Database, as_tenant, make_tenant
from csb_core.util_models import About, Content, Permission, Util

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


def test_a_new_util_is_told_as_it_was_given(database: Database, tenant: UUID) -> None:
    made = _create(
        database, tenant, "IOC", description="finds", category="parsing", tags=("ioc", "text")
    )
    assert (made.name, made.description, made.category, made.tags) == (
        "IOC",
        "finds",
        "parsing",
        ["ioc", "text"],
    )
    assert (made.tenant_id, made.owner, made.created_by, made.access) == (
        tenant,
        "key",
        "key",
        "owner",
    )
    assert (made.status, made.version, made.active_version, made.revision) == ("active", 1, 1, 1)
    with as_tenant(database.api, tenant) as conn:
        version = util_versions.get(conn, made.util_id, 1)
    content = _content(label=None)
    assert (version.code, version.parameters, version.execution_config, version.validation) == (
        content.code,
        content.parameters,
        content.execution_config,
        content.validation,
    )


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, "active"),
        ({"active": False}, "inactive"),
        ({"test_cases": TESTS}, "inactive"),
        ({"validation": INVALID}, "inactive"),
        ({"validation": INVALID, "advisory": True}, "active"),
        ({"validation": INVALID, "advisory": True, "test_cases": TESTS}, "inactive"),
    ],
)
def test_a_new_util_is_active_when_nothing_stands_against_it(
    database: Database, tenant: UUID, more: dict[str, Any], status: str
) -> None:
    made = _create(database, tenant, **more)
    assert (made.status, made.active_version) == (status, 1 if status == "active" else None)


def test_a_tenant_that_asks_for_more_gets_its_util_inactive(
    database: Database, tenant: UUID
) -> None:
    with psycopg.connect(database.admin) as conn:
        util_ceilings.change(conn, tenant, {"security_score": 81})
    made = _create(database, tenant)
    assert made.status == "inactive"
    with as_tenant(database.api, tenant) as conn, pytest.raises(Conflict, match="81"):
        util_status.activate(conn, made.util_id, by="key")


def test_a_name_is_one_utils_until_it_is_deleted(database: Database, tenant: UUID) -> None:
    first = _create(database, tenant)
    other = _create(database, tenant, "other")
    with pytest.raises(Conflict, match="one"):
        _create(database, tenant)
    with as_tenant(database.api, tenant) as conn, pytest.raises(Conflict, match="one"):
        util_store.update(conn, other, about=About(name="one"), by="key")
    assert _create(database, make_tenant(database.admin)).name == "one"
    with as_tenant(database.api, tenant) as conn:
        util_status.delete(conn, first.util_id, by="key")
        assert util_store.get(conn, first.util_id) is None
        for call in _changes(first):
            with pytest.raises(NotFound), conn.transaction():
                call(conn, None)
    assert _create(database, tenant).util_id != first.util_id


Change = Callable[[psycopg.Connection[Any], int | None], object]


def _changes(util: Util) -> list[Change]:
    """Every way to change a util, expecting a revision."""
    return [
        lambda conn, n: util_store.update(conn, util, about=About(name="x"), by="k", expected=n),
        lambda conn, n: util_store.update(conn, util, content=_content(), by="k", expected=n),
        lambda conn, n: util_versions.rollback(conn, util.util_id, 1, by="k", expected=n),
        lambda conn, n: util_status.activate(conn, util.util_id, by="k", expected=n),
        lambda conn, n: util_status.deactivate(conn, util.util_id, by="k", expected=n),
        lambda conn, n: util_status.delete(conn, util.util_id, by="k", expected=n),
    ]


@pytest.mark.parametrize("which", range(6))
def test_a_change_of_what_was_not_read_is_refused(
    database: Database, tenant: UUID, which: int
) -> None:
    util = _create(database, tenant)
    change = _changes(util)[which]
    with as_tenant(database.api, tenant) as conn:
        for wrong in (0, 2):
            with pytest.raises(RevisionMismatch), conn.transaction():
                change(conn, wrong)
        assert util_store.seen(conn, util.util_id).revision == 1
        change(conn, 1)
        with pytest.raises((RevisionMismatch, NotFound)), conn.transaction():
            change(conn, 1)  # it has changed by this very change


@pytest.mark.parametrize("permission", ["read", "execute"])
def test_who_may_not_change_a_util_is_told_so(
    database: Database, tenant: UUID, permission: Permission
) -> None:
    util, other = _create(database, tenant), make_tenant(database.admin)
    with as_tenant(database.api, tenant) as conn:
        util_shares.share(conn, util.util_id, other, permission=permission, by="key")
    with as_tenant(database.api, other) as conn:
        for change in _changes(util):
            with pytest.raises(NotPermitted), conn.transaction():
                change(conn, None)
        with pytest.raises(NotPermitted), conn.transaction():
            util_shares.share(conn, util.util_id, uuid4(), permission="read", by="k")
        assert util_store.seen(conn, util.util_id).revision == 1


def test_an_editor_changes_and_activates_and_does_not_delete(
    database: Database, tenant: UUID
) -> None:
    util, other = _create(database, tenant), make_tenant(database.admin)
    with as_tenant(database.api, tenant) as conn:
        util_shares.share(conn, util.util_id, other, permission="edit", by="key")
    with as_tenant(database.api, other) as conn:
        *changes, delete = _changes(util)
        for change in changes:
            change(conn, None)
        with pytest.raises(NotPermitted), conn.transaction():
            delete(conn, None)
        edited = util_store.seen(conn, util.util_id)
    assert (edited.tenant_id, edited.access, edited.updated_by) == (tenant, "edit", "k")
    assert (edited.name, edited.version, edited.revision) == ("x", 3, 6)


def test_both_halves_of_an_update_happen_or_neither(database: Database, tenant: UUID) -> None:
    util = _create(database, tenant)
    with as_tenant(database.api, tenant) as conn:
        both = util_store.update(
            conn, util, about=About(name="x"), content=_content(code="2"), by="k", expected=1
        )
    assert (both.name, both.version, both.revision) == ("x", 2, 3)
    with pytest.raises(psycopg.errors.CheckViolation), as_tenant(database.api, tenant) as conn:
        util_store.update(conn, both, about=About(name="y"), content=_content(code=""), by="k")
    with as_tenant(database.api, tenant) as conn:
        assert util_store.seen(conn, util.util_id) == both


def test_an_active_util_takes_a_fit_version_at_once_and_waits_for_the_others(
    database: Database, tenant: UUID
) -> None:
    util = _create(database, tenant)
    with as_tenant(database.api, tenant) as conn:
        for content, runs in (
            (_content(code="2"), 2),
            (_content(code="3", test_cases=TESTS), 2),
            (_content(code="4", validation=INVALID), 2),
            (_content(code="5"), 5),
        ):
            util = util_store.update(conn, util, content=content, by="k")
            assert util.active_version == runs
        util_status.deactivate(conn, util.util_id, by="k")
        util = util_store.update(conn, util, content=_content(code="6"), by="k")
        assert (util.status, util.version, util.active_version) == ("inactive", 6, 5)
        with pytest.raises(Conflict, match="not valid"):
            util_status.activate(conn, util.util_id, 4, by="k")
        with pytest.raises(NotFound):
            util_status.activate(conn, util.util_id, 7, by="k")
        assert (
            util_status.activate(conn, util.util_id, 4, by="k", advisory=True).active_version == 4
        )
        assert util_status.activate(conn, util.util_id, by="k").active_version == 6


def test_a_rollback_is_a_new_version_of_the_same_content(database: Database, tenant: UUID) -> None:
    util = _create(database, tenant, label="1.0.0")
    with as_tenant(database.api, tenant) as conn:
        util = util_store.update(conn, util, content=_content(code="2", label="2.0.0"), by="k")
        back = util_versions.rollback(conn, util.util_id, 1, by="k", expected=2)
        assert (back.version, back.active_version, back.revision) == (3, 3, 3)
        first, third = (util_versions.get(conn, util.util_id, n) for n in (1, 3))
        lines = util_versions.list_of(conn, util.util_id)
        assert [(line.version, line.rollback_of) for line in lines] == [
            (3, 1),
            (2, None),
            (1, None),
        ]
        assert [one.version for one in util_versions.list_of(conn, util.util_id, before=3)] == [
            2,
            1,
        ]
        with pytest.raises(NotFound):
            util_versions.rollback(conn, util.util_id, 9, by="k")
    differing = {n for n in first.__slots__ if getattr(first, n) != getattr(third, n)}
    assert differing == {"version", "rollback_of", "created_at", "created_by"} - (
        {"created_at"} if first.created_at == third.created_at else set()
    )
    assert third.digest == first.digest
