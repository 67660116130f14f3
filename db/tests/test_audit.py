"""The trail of a request: every move is in it once, and nobody can skip, change or forge it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from db.tests.world import (
    FAULT,
    ROLES,
    SERVICES,
    TTL,
    World,
    acting,
    cancel,
    claim,
    draft,
    end_of,
    outcome,
    set_tenant,
    submit,
)
from psycopg import sql
from psycopg.rows import dict_row

from csb_core import leases, requests, rescues
from csb_core.db import Connection
from csb_core.leases import Candidate
from csb_core.models import Draft
from csb_core.states import Status
from csb_core.testing import Database

TRAILS: Final = ("csb_requests_audit", "csb_control_audit", "csb_security_events")


@pytest.fixture
def waiting(shared: Database, tenant: UUID) -> Draft:
    """A request of this test, accepted."""
    one = draft(tenant)
    submit(shared, one)
    return one


@pytest.fixture
def worker(shared: Database) -> Iterator[Connection]:
    """A connection as csb_aws_user."""
    with acting(shared, "csb_aws_user") as conn:
        yield conn


def _trail(database: Database, *drafts: Draft) -> list[dict[str, Any]]:
    with (
        acting(database, "superuser") as conn,
        conn.cursor(row_factory=dict_row) as cur,
    ):
        cur.execute(
            """
            SELECT *, xmin::text AS written_by
              FROM csb_app.csb_requests_audit
             WHERE correlation_id = ANY (%s)
             ORDER BY audit_id
            """,
            ([one.correlation_id for one in drafts],),
        )
        return cur.fetchall()


def _written_by(database: Database, one: Draft) -> str:
    """The transaction that wrote the row as it is now."""
    with acting(database, "superuser") as conn:
        [row] = conn.execute(
            "SELECT xmin::text FROM csb_app.csb_requests WHERE correlation_id = %s",
            (one.correlation_id,),
        ).fetchall()
        return str(row[0])


def test_each_move_leaves_one_row_in_its_own_transaction(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    def moved(event: str, origin: str | None, target: str, version: int, **more: Any) -> None:
        expected = {
            "event": event,
            "from_status": origin,
            "to_status": target,
            "version": version,
            "tenant_id": waiting.tenant_id,
            "written_by": _written_by(shared, waiting),
            **more,
        }
        trail = _trail(shared, waiting)
        assert len(trail) == version
        assert {name: trail[-1][name] for name in expected} == expected

    api = {"mover": "api", "db_role": "csb_api_user"}
    moved("created", None, "PENDING", 1, actor="testkey00000", attempt=0, lease_token=0, **api)

    aws = {"mover": "worker", "db_role": "csb_aws_user", "actor": "w"}
    lease = claim(worker, waiting)
    moved("moved", "PENDING", "IN_PROGRESS", 2, attempt=1, lease_token=1, detail=None, **aws)

    leases.extend(worker, [(lease.correlation_id, lease.token)], ttl=TTL)
    leases.keep(worker, lease.correlation_id, token=lease.token, checkpoint={"a": 1}, ttl=TTL)
    assert len(_trail(shared, waiting)) == 2  # a heartbeat is no move

    leases.record(worker, [end_of(lease, Status.PENDING, wait=timedelta())], worker="w")
    moved("moved", "IN_PROGRESS", "PENDING", 3, attempt=1, detail=FAULT, **aws)

    lease = claim(worker, waiting)
    leases.record(worker, [end_of(lease, Status.SUCCESS)], worker="w")
    moved("moved", "IN_PROGRESS", "SUCCESS", 5, attempt=2, changed=True, detail=None, **aws)


def test_a_cancelled_request_says_who_cancelled_it(shared: Database, waiting: Draft) -> None:
    with acting(shared, "csb_api_user") as conn:
        cancel(conn, waiting)
    [_, last] = _trail(shared, waiting)
    assert (last["from_status"], last["to_status"]) == ("PENDING", "CANCELLED")
    assert (last["actor"], last["mover"], last["db_role"]) == ("canceller", "api", "csb_api_user")
    assert last["written_by"] == _written_by(shared, waiting)


def test_a_rescued_request_says_that_its_worker_was_lost(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    claim(worker, waiting)
    worker.execute(
        "UPDATE csb_app.csb_requests SET lease_expires_at = '-infinity' WHERE correlation_id = %s",
        (waiting.correlation_id,),
    )
    rescues.rescue(worker, "aws", worker="rescuer", oldest=None, margin=TTL, room=0)
    last = _trail(shared, waiting)[-1]
    assert (last["from_status"], last["to_status"]) == ("IN_PROGRESS", "PENDING")
    assert (last["actor"], last["detail"]) == ("rescuer", rescues.LOSS)
    assert last["written_by"] == _written_by(shared, waiting)


def test_many_rows_moved_at_once_leave_a_row_each(
    shared: Database, tenant: UUID, worker: Connection
) -> None:
    drafts = [draft(tenant) for _ in range(40)]
    submit(shared, *drafts)
    candidates = [Candidate(correlation_id=d.correlation_id, digest=d.digest) for d in drafts]
    held = leases.claim(worker, candidates, worker="w", ttl=TTL)
    ends = [
        end_of(lease, status)
        for lease, status in zip(
            held, [Status.SUCCESS, Status.FAILED, Status.PENDING, Status.SUCCESS] * 10, strict=True
        )
    ]
    assert len(leases.record(worker, ends, worker="w")) == 40

    trail = _trail(shared, *drafts)
    assert len(trail) == 3 * 40
    last = {row["correlation_id"]: row["to_status"] for row in trail}
    assert last == {end.correlation_id: end.status for end in ends}


def test_a_move_that_is_rolled_back_leaves_nothing(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    with worker.transaction(force_rollback=True):
        lease = claim(worker, waiting)
        leases.record(worker, [end_of(lease, Status.SUCCESS)], worker="w")
    assert [row["event"] for row in _trail(shared, waiting)] == ["created"]

    unborn = draft(waiting.tenant_id)
    with acting(shared, "csb_api_user") as conn, conn.transaction(force_rollback=True):
        assert requests.insert(conn, [unborn])[0].outcome == "created"
    assert _trail(shared, unborn) == []


def test_a_move_whose_transaction_fails_later_leaves_nothing(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    with suppress(psycopg.errors.DivisionByZero), worker.transaction():
        claim(worker, waiting)
        worker.execute("SELECT 1 / 0")
    assert [row["event"] for row in _trail(shared, waiting)] == ["created"]


def test_a_refused_move_leaves_nothing(
    shared: Database, waiting: Draft, worker: Connection
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        worker.execute(
            "UPDATE csb_app.csb_requests SET status = 'SUCCESS', version = version + 1,"
            " finished_at = now() WHERE correlation_id = %s",
            (waiting.correlation_id,),
        )
    assert [row["event"] for row in _trail(shared, waiting)] == ["created"]


MOVES_AROUND: Final = {
    "merge": """
        MERGE INTO csb_app.csb_requests r
        USING (SELECT %(id)s::uuid AS id) s ON r.correlation_id = s.id
         WHEN MATCHED THEN UPDATE SET {claimed}
    """,
    "with": """
        WITH moved AS (UPDATE csb_app.csb_requests r SET {claimed}
                        WHERE correlation_id = %(id)s RETURNING 1)
        SELECT count(*) FROM moved
    """,
    "prepared": """
        DO $$ BEGIN UPDATE csb_app.csb_requests r SET {claimed}
                     WHERE correlation_id = (current_setting('test.id'))::uuid; END $$
    """,
}


@pytest.mark.parametrize("way", MOVES_AROUND)
def test_no_other_way_of_writing_passes_the_trail_by(
    shared: Database, waiting: Draft, worker: Connection, way: str
) -> None:
    claimed = (
        "status = 'IN_PROGRESS', version = r.version + 1, lease_expires_at = now(), moved_by = 'x'"
    )
    text = MOVES_AROUND[way].replace("{claimed}", claimed)
    with worker.transaction():
        worker.execute("SELECT set_config('test.id', %s, true)", (str(waiting.correlation_id),))
        worker.execute(text, {"id": waiting.correlation_id} if "%(id)s" in text else None)
    assert [row["version"] for row in _trail(shared, waiting)] == [1, 2]


def test_the_api_cannot_upsert_or_copy_its_way_around(shared: Database, waiting: Draft) -> None:
    upsert = """
        INSERT INTO csb_app.csb_requests
               (correlation_id, tenant_id, cloud_provider, action, payload, digest, requested_by,
                moved_by, request_id)
        VALUES (%s, %s, 'aws', 'a', '{}', 'd', 'k', 'k', 'r')
        ON CONFLICT (correlation_id) DO UPDATE
           SET status = 'CANCELLED', version = csb_requests.version + 1, finished_at = now(),
               moved_by = 'upsert'
    """
    copied = "COPY csb_app.csb_requests (correlation_id, tenant_id) FROM STDIN"
    with acting(shared, "csb_api_user", autocommit=False) as conn:
        set_tenant(conn, waiting.tenant_id)
        conn.execute(upsert, (waiting.correlation_id, waiting.tenant_id))
        conn.commit()
        with pytest.raises(psycopg.errors.FeatureNotSupported), conn.cursor().copy(copied):
            pass
    assert [row["actor"] for row in _trail(shared, waiting)] == ["testkey00000", "upsert"]


def test_a_temporary_table_cannot_stand_in_for_the_trail(
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
    events = [row["event"] for row in _trail(shared, waiting)]
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
def test_not_even_who_may_do_everything_changes_a_trail(world: World, role: str) -> None:
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
            expected = "denied" if role == "csb_worker" else "csb_move_is_allowed"
            assert outcome(conn, text) == expected, what
