"""Nobody skips, changes or forges a trail, whatever role and whatever trick."""

from __future__ import annotations

from typing import Final

import pytest
from db.tests.world import (
    ROLES,
    SERVICES,
    World,
    acting,
    claim,
    outcome,
    trail_of,
)
from psycopg import sql

from csb_core import rescues
from csb_core.db import Connection
from csb_core.models import Draft
from csb_core.testing import Database

TRAILS: Final = ("csb_requests_audit", "csb_control_audit", "csb_security_events")


def test_a_temporary_table_cannot_stand_in_for_thetrail_of(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    for table in ("csb_requests_audit", "csb_requests"):
        worker.execute(
            sql.SQL("CREATE TEMPORARY TABLE {0} AS TABLE csb_app.csb_requests WITH NO DATA").format(
                sql.Identifier(table)
            )
        )
        worker.execute(sql.SQL("GRANT ALL ON {} TO PUBLIC").format(sql.Identifier(table)))
    claim(worker, waiting)
    rescues.report_stale_write(worker, waiting.correlation_id, token=7, worker="w", detail={})
    events = [row["event"] for row in trail_of(shared, waiting)]
    assert events == ["created", "moved", "stale_write_rejected"]


def test_a_temporary_domain_does_not_run_with_the_owners_rights(
    waiting: Draft, worker: Connection
) -> None:
    worker.execute("CREATE TEMPORARY TABLE met (who name)")
    worker.execute("GRANT ALL ON met TO PUBLIC")
    worker.execute(
        """
        CREATE FUNCTION pg_temp.meet(v pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO pg_temp.met VALUES (current_user); RETURN true; END $$
        """
    )
    domain = """
        CREATE DOMAIN pg_temp.{0} AS pg_catalog.{0}
               CHECK (pg_temp.meet(VALUE::pg_catalog.text))
    """
    for name in ("text", "uuid", "jsonb"):
        worker.execute(sql.SQL(domain).format(sql.Identifier(name)))
    claim(worker, waiting)
    rescues.report_stale_write(worker, waiting.correlation_id, token=7, worker="w", detail={})
    met = worker.execute("SELECT DISTINCT who FROM pg_temp.met").fetchall()
    assert ("csb_owner",) not in met


@pytest.mark.parametrize("role", SERVICES)
def test_no_service_switches_the_trail_off(world: World, role: str) -> None:
    statements = (
        "SET session_replication_role = 'replica'",
        "SET row_security = off",  # may be said, and then each query raises
        "ALTER TABLE csb_app.csb_requests DISABLE TRIGGER ALL",
        "ALTER TABLE csb_app.csb_requests NO FORCE ROW LEVEL SECURITY",
        "DROP TRIGGER csb_requests_moved ON csb_app.csb_requests",
        "DROP POLICY api_reads ON csb_app.csb_requests",
        "DROP TABLE csb_app.csb_requests_audit_default",
        "CREATE TABLE csb_app.another (a integer)",
        "CREATE TABLE public.another (a integer)",
        "CREATE SCHEMA another",
        "CREATE OR REPLACE FUNCTION csb_app.acting_mover() RETURNS text RETURN 'worker'",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
    )
    with acting(world.database, role) as conn:
        for statement in statements:
            answer = outcome(conn, statement)
            assert answer == ("-1 rows" if "row_security" in statement else "denied"), statement
        conn.execute("SET row_security = off")
        for query in ("SELECT FROM csb_app.csb_requests", "SELECT FROM csb_app.csb_requests_audit"):
            assert outcome(conn, query) in {"hidden", "denied"}


INSERTS: Final = {
    "csb_requests_audit": """
        INSERT INTO csb_app.csb_requests_audit
               (correlation_id, tenant_id, event, from_status, to_status, mover, prior_version,
                version, attempt, lease_token, actor, db_role)
        VALUES (gen_random_uuid(), gen_random_uuid(), 'moved', 'IN_PROGRESS', 'SUCCESS', 'worker',
                2, 3, 1, 1, 'forger', 'csb_aws_user')
    """,
    "csb_control_audit": """
        INSERT INTO csb_app.csb_control_audit (actor, db_role, event, subject, detail)
        VALUES ('forger', 'x', 'csb_tenants.insert', 'x', '{}')
    """,
    "csb_security_events": """
        INSERT INTO csb_app.csb_security_events (event, actor, db_role)
        VALUES ('message_forged', 'forger', 'csb_aws_user')
    """,
}
CHANGES: Final = (
    "UPDATE {} SET actor = actor",
    "UPDATE {} SET actor = 'nobody' WHERE false",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "TRUNCATE {} CASCADE",
)


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize("table", TRAILS)
def test_no_service_writes_a_trail_by_hand(world: World, table: str, role: str) -> None:
    with acting(world.database, role) as conn:
        assert outcome(conn, INSERTS[table]) == "denied"
        for change in CHANGES:
            assert outcome(conn, change.format(f"csb_app.{table}")) == "denied"


@pytest.mark.parametrize("role", ["superuser", "csb_owner", "csb_migrator"])
def test_not_even_who_may_do_everything_changes_atrail_of(world: World, role: str) -> None:
    with acting(world.database, role) as conn:
        partitions = _partitions(conn)
        assert len(partitions) > 12
        for table in [*(f"csb_app.{one}" for one in TRAILS), *partitions]:
            for change in CHANGES:
                assert outcome(conn, change.format(table)) == "append-only", change.format(table)


def test_a_partition_that_is_made_later_is_guarded_as_well(world: World) -> None:
    with acting(world.database, "superuser", autocommit=False) as conn:
        before = set(_partitions(conn))
        conn.execute("SELECT csb_app.ensure_audit_partitions(15)")
        made = set(_partitions(conn)) - before
        assert len(made) == 3
        for partition in made:
            for change in CHANGES:
                assert outcome(conn, change.format(partition)) == "append-only"
        conn.rollback()


def _partitions(conn: Connection) -> list[str]:
    rows = conn.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'csb_app.csb_requests_audit'::regclass"
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize("role", sorted(set(ROLES) - set(SERVICES)))
def test_an_entry_that_is_no_move_is_refused_to_everybody(world: World, role: str) -> None:
    forged = INSERTS["csb_requests_audit"]
    wrong = {
        "from": forged.replace("'IN_PROGRESS'", "'PENDING'"),
        "final": forged.replace("'IN_PROGRESS'", "'FAILED'"),
        "mover": forged.replace("'worker'", "'api'"),
        "nobody": forged.replace("'worker'", "NULL"),
        "version": forged.replace("2, 3", "2, 4"),
        "event": forged.replace("'moved'", "'mended'"),
    }
    with acting(world.database, role) as conn:
        for what, text in wrong.items():
            writes = role not in {"csb_worker", "csb_backup_user"}
            expected = "csb_move_is_allowed" if writes else "denied"
            assert outcome(conn, text) == expected, what
