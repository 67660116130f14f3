"""What stands in the control plane's trail of utils: who did what, and never the code."""

from __future__ import annotations

from uuid import UUID

import pytest
from db.tests.world import acting, content
from psycopg.rows import dict_row

from csb_core import util_rules, util_shares, util_status, util_store
from csb_core.errors import NotPermitted
from csb_core.testing import Database, as_tenant, make_tenant, make_util
from csb_core.util_models import About

SESAME = {"name": "sesame", "input": "sesame", "expected": "sesame"}


@pytest.fixture
def grantee(shared: Database) -> UUID:
    return make_tenant(shared.admin)


def test_the_trail_names_who_changed_what_and_never_the_code(
    shared: Database, tenant: UUID, grantee: UUID
) -> None:
    with as_tenant(shared.api, tenant, "ownerkey0000") as conn:
        made = util_store.create(
            conn,
            About(name="thing"),
            content(parameters={"input_schema": {"title": "sesame"}}, test_cases=[SESAME]),
            kind="transformer",
            by="ownerkey0000",
        )
        share = util_shares.share(conn, made.util_id, grantee, permission="edit", by="ownerkey0000")
    with as_tenant(shared.api, grantee, "editorkey000") as conn:
        util_store.update(
            conn,
            made,
            about=About(name="thing"),
            content=content(code="sesame"),
            by="editorkey000",
        )
    with as_tenant(shared.api, tenant, "ownerkey0000") as conn:
        util_shares.unshare(conn, made.util_id, share.share_id)
        util_status.delete(conn, made.util_id, by="ownerkey0000")
    with acting(shared, "csb_admin_user") as conn, conn.cursor(row_factory=dict_row) as cur:
        cur.execute(
            "SELECT event, actor, db_role, tenant_id, detail, a::text AS whole"
            "  FROM csb_app.csb_control_audit a WHERE subject = %s ORDER BY audit_id",
            (str(made.util_id),),
        )
        trail = cur.fetchall()
    assert [(one["event"], one["actor"]) for one in trail] == [
        ("csb_utils.insert", "ownerkey0000"),
        ("csb_util_versions.insert", "ownerkey0000"),
        ("csb_util_shares.insert", "ownerkey0000"),
        ("csb_utils.update", "editorkey000"),
        ("csb_utils.update", "editorkey000"),
        ("csb_util_versions.insert", "editorkey000"),
        ("csb_util_shares.delete", "ownerkey0000"),
        ("csb_utils.update", "ownerkey0000"),
    ]
    assert {(one["tenant_id"], one["db_role"]) for one in trail} == {(tenant, "csb_api_user")}
    assert not any("sesame" in one["whole"] for one in trail)
    digests = {one["detail"]["after"].get("digest") for one in trail[:6]}
    assert len(digests - {None}) == 2
    assert trail[-1]["detail"]["after"]["status"] == "deleted"


def test_what_is_refused_leaves_no_trace(shared: Database, tenant: UUID, grantee: UUID) -> None:
    util = make_util(shared.api, tenant)
    with as_tenant(shared.api, tenant) as conn:
        util_shares.share(conn, util, grantee, permission="execute", by="k")
    count = "SELECT count(*) FROM csb_app.csb_control_audit WHERE subject = %s"
    with acting(shared, "csb_admin_user") as conn:
        before = conn.execute(count, (str(util),)).fetchall()
        with as_tenant(shared.api, grantee) as api, pytest.raises(NotPermitted):
            util_status.deactivate(api, util, by="k")
        assert conn.execute(count, (str(util),)).fetchall() == before


def test_rules_are_in_the_trail(shared: Database, tenant: UUID) -> None:
    with as_tenant(shared.api, tenant, "adminkey0000") as conn:
        for message in ("", "changed"):
            util_rules.put(
                conn,
                "NO-SOCKETS",
                severity="error",
                kind="forbid_import",
                pattern="socket",
                message=message,
                by="adminkey0000",
            )
        util_rules.delete(conn, "NO-SOCKETS")
    with acting(shared, "csb_admin_user") as conn:
        rows = conn.execute(
            """
            SELECT event, actor
              FROM csb_app.csb_control_audit
             WHERE subject = 'NO-SOCKETS' AND tenant_id = %s
             ORDER BY audit_id
            """,
            (tenant,),
        ).fetchall()
    assert rows == [
        (f"csb_util_rules.{verb}", "adminkey0000") for verb in ("insert", "update", "delete")
    ]
