"""What has ended goes after its time and not before, its trail by whole partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest
from db.tests.world import ROLES, SERVICES, acting, claim, draft, end_of, outcome

from csb_core import control_audit, leases, requests, retention, tenants
from csb_core.db import Connection
from csb_core.ids import new_id
from csb_core.models import Draft
from csb_core.states import Status
from csb_core.testing import Database, make_tenant

DEFAULT = 365
LONG_AGO = datetime(2020, 1, 15, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A database of its own with two tenants, and what one needs to look back."""

    database: Database
    ours: UUID
    theirs: UUID
    admin: Connection
    superuser: Connection

    def request(self, tenant_id: UUID, status: Status, days: float) -> UUID:
        """A request that came, and unless it is open ended, so many days ago; with a reference."""
        at = datetime.now(UTC) - timedelta(days=days)
        one = replace(draft(tenant_id), correlation_id=_id_at(at))
        with acting(self.database, "csb_api_user") as conn:
            requests.insert(conn, [one])
            if status is Status.CANCELLED:
                with conn.transaction():
                    conn.execute("SELECT set_config('csb.tenant_id', %s, true)", (str(tenant_id),))
                    requests.cancel(conn, one.correlation_id, actor="k")
        if status not in {Status.PENDING, Status.CANCELLED}:
            self._work(one, status)
        with self.superuser.transaction():
            self.superuser.execute("SET LOCAL session_replication_role = replica")
            self.superuser.execute(
                """
                UPDATE csb_app.csb_requests
                   SET created_at = %(at)s,
                       finished_at = CASE WHEN finished_at IS NOT NULL THEN %(at)s END
                 WHERE correlation_id = %(id)s
                """,
                {"at": at, "id": one.correlation_id},
            )
        return one.correlation_id

    def _work(self, one: Draft, status: Status) -> None:
        with acting(self.database, "csb_aws_user") as conn:
            lease = claim(conn, one)
            if status is not Status.IN_PROGRESS:
                leases.record(conn, [end_of(lease, status)], worker="w")

    def partition(self, name: str, begins: str, ends: str, *subjects: UUID) -> None:
        """A partition of the past, with an entry about each of these requests."""
        self.superuser.execute(
            f"""
            SET ROLE csb_owner;
            CREATE TABLE csb_app.{name} PARTITION OF csb_app.csb_requests_audit
               FOR VALUES FROM ('{begins}Z') TO ('{ends}Z');
            SELECT csb_app.guard_audit_partition('{name}');
            RESET ROLE
            """
        )
        for subject in subjects:
            self.entry(subject, datetime.fromisoformat(f"{begins}T00:00:00+00:00"))

    def entry(self, subject: UUID, at: datetime) -> None:
        """An entry of this moment about a request."""
        self.superuser.execute(
            """
            INSERT INTO csb_app.csb_requests_audit
                   (at, correlation_id, tenant_id, event, version, attempt, lease_token, actor,
                    db_role)
            VALUES (%s, %s, %s, 'stale_write_rejected', 1, 1, 1, 'w', 'csb_aws_user')
            """,
            (at, subject, self.ours),
        )

    def left(self, table: str) -> set[UUID]:
        """The requests that a table has rows of."""
        query = f"SELECT DISTINCT correlation_id FROM csb_app.{table}"
        return {row[0] for row in self.superuser.execute(query).fetchall()}

    def names(self) -> set[str]:
        """The partitions of the audit."""
        query = """
            SELECT inhrelid::regclass::text FROM pg_inherits
             WHERE inhparent = 'csb_app.csb_requests_audit'::regclass
        """
        rows = self.superuser.execute(query).fetchall()
        return {row[0].removeprefix("csb_app.") for row in rows}


def _id_at(at: datetime) -> UUID:
    stamp = int(at.timestamp() * 1000).to_bytes(6, "big")
    return UUID(bytes=stamp + new_id().bytes[6:])


@pytest.fixture
def past(database: Database) -> Iterator[Past]:
    with (
        acting(database, "csb_admin_user") as admin,
        acting(database, "superuser") as superuser,
    ):
        yield Past(
            database=database,
            ours=make_tenant(database.admin, "ours"),
            theirs=make_tenant(database.admin, "theirs"),
            admin=admin,
            superuser=superuser,
        )


def _trace(conn: Connection) -> dict[str, Any]:
    return control_audit.latest(conn, tenant_id=None, limit=1)[0]


def test_what_has_ended_goes_after_its_tenants_time(past: Past) -> None:
    retention.change(past.admin, past.ours, 30)
    ends = (Status.SUCCESS, Status.FAILED, Status.CANCELLED)
    gone = {past.request(past.ours, status, 31) for status in ends}
    gone.add(past.request(past.theirs, Status.SUCCESS, DEFAULT + 1))
    kept = {past.request(past.ours, status, 29) for status in ends}
    kept.add(past.request(past.theirs, Status.SUCCESS, DEFAULT - 1))
    kept |= {
        past.request(past.ours, status, 5_000) for status in (Status.PENDING, Status.IN_PROGRESS)
    }
    counted = {one.tenant: (one.retention_days, one.requests) for one in retention.due(past.admin)}
    assert counted == {"ours": (30, 3), "theirs": (DEFAULT, 1)}

    deleted = retention.delete_batch(past.admin, most=100)

    assert {one.tenant_id: one.deleted for one in deleted} == {past.ours: 3, past.theirs: 1}
    assert past.left("csb_requests") == kept
    assert past.left("csb_requests_ref") < kept
    assert past.left("csb_requests_audit") == gone | kept  # the trail outlives what it is of
    assert retention.delete_batch(past.admin, most=100) == []
    assert retention.due(past.admin) == []


def test_a_request_that_ended_late_is_kept_from_its_end_on(past: Past) -> None:
    retention.change(past.admin, past.ours, 30)
    late = past.request(past.ours, Status.SUCCESS, 400)
    past.superuser.execute("SET session_replication_role = replica")
    past.superuser.execute(
        "UPDATE csb_app.csb_requests SET finished_at = now() - interval '2 days'"
    )
    assert retention.delete_batch(past.admin, most=100) == []
    assert past.left("csb_requests") == {late}


def test_batches_are_bounded_and_each_leaves_its_trace(past: Past) -> None:
    old = sorted(past.request(past.ours, Status.SUCCESS, DEFAULT + days) for days in (3, 2, 1))
    with control_audit.acting(past.admin, "grace"):
        assert sum(one.deleted for one in retention.delete_batch(past.admin, most=2)) == 2
    assert past.left("csb_requests") == {old[2]}  # the oldest first
    trace = _trace(past.admin)
    assert (trace["event"], trace["actor"], trace["tenant_id"]) == (
        "operator.requests_deleted",
        "grace",
        past.ours,
    )
    assert (trace["detail"]["count"], trace["detail"]["first"]) == (2, str(old[0]))


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"superuser"}))
def test_nobody_deletes_by_hand_what_is_to_be_kept(past: Past, role: str) -> None:
    past.request(past.ours, Status.SUCCESS, DEFAULT - 1)
    past.request(past.ours, Status.PENDING, DEFAULT + 1)
    expected = "denied" if role in {*SERVICES, "csb_worker", "csb_backup_user"} else "0 rows"
    with acting(past.database, role) as conn:
        for table in ("csb_requests", "csb_requests_ref"):
            assert outcome(conn, f"DELETE FROM csb_app.{table}") == expected
        past.request(past.ours, Status.SUCCESS, DEFAULT + 1)
        if role in SERVICES:
            assert outcome(conn, "DELETE FROM csb_app.csb_requests") == "denied"


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_a_retention_is_some_days(past: Past, days: int) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        retention.change(past.admin, past.ours, days)


def test_a_change_of_retention_is_audited(past: Past) -> None:
    retention.change(past.admin, past.ours, 30)
    assert tenants.find(past.admin, "ours").retention_days == 30
    trace = _trace(past.admin)
    assert (trace["event"], trace["subject"]) == ("csb_tenants.update", "ours")
    assert trace["detail"]["after"]["retention_days"] == 30


def test_a_partition_goes_when_every_tenant_may_lose_it(past: Past) -> None:
    gone = new_id()
    past.partition("csb_requests_audit_2020_01", "2020-01-01", "2020-02-01", gone)
    retention.change(past.admin, past.ours, 1)
    retention.change(past.admin, past.theirs, 20_000)
    assert retention.drop_partition(past.admin) is None

    retention.change(past.admin, past.theirs, None)
    [due] = [one for one in retention.partitions(past.admin) if one.is_due]
    assert (due.name, due.from_at) == (
        "csb_requests_audit_2020_01",
        datetime(2020, 1, 1, tzinfo=UTC),
    )
    with control_audit.acting(past.admin, "grace"):
        assert retention.drop_partition(past.admin) == due.name
    assert due.name not in past.names()
    assert past.left("csb_requests_audit") == set()
    trace = _trace(past.admin)
    assert (trace["event"], trace["actor"], trace["subject"]) == (
        "operator.audit_dropped",
        "grace",
        due.name,
    )
    assert trace["detail"]["rows"] == 1
    assert retention.drop_partition(past.admin) is None


def test_a_partition_stays_while_a_request_of_it_is_there(past: Past) -> None:
    days = (datetime.now(UTC) - LONG_AGO).days
    waiting = past.request(past.ours, Status.PENDING, days)
    past.partition("csb_requests_audit_2020_01", "2020-01-01", "2020-02-01", waiting, new_id())
    past.partition("csb_requests_audit_2020_02", "2020-02-01", "2020-03-01", new_id())
    assert retention.drop_partition(past.admin) == "csb_requests_audit_2020_02"
    assert retention.drop_partition(past.admin) is None
    assert "csb_requests_audit_2020_01" in past.names()


def test_without_tenants_nothing_is_known_to_be_old(database: Database) -> None:
    with acting(database, "csb_admin_user") as conn:
        assert not [one for one in retention.partitions(conn) if one.is_due]


def test_what_stood_in_the_default_partition_stays_in_view_and_blocks_nothing(past: Past) -> None:
    subject, later = new_id(), datetime.now(UTC) + timedelta(days=32 * 14)
    before = past.names()
    past.entry(subject, later)

    assert retention.make_partitions(past.admin, months_ahead=20) > 0

    assert past.left("csb_requests_audit") == {subject}
    assert past.left("csb_requests_audit_default") == set()
    [filed] = [name for name in past.names() - before if "_to_" in name]
    assert past.left(filed) == {subject}
    assert _trace(past.admin)["event"] == "operator.audit_filed"
    months = [(one.from_at, one.until_at) for one in retention.partitions(past.admin)]
    assert all(end == begin for (_, end), (begin, _) in pairwise(months))
    assert len(months) == 21
    for name in (filed, "csb_requests_audit_default"):
        change = f"DELETE FROM csb_app.{name}"
        assert outcome(past.superuser, change) == "append-only"
        with acting(past.database, "csb_admin_user") as conn:
            assert outcome(conn, change) == "denied"
    past.entry(subject, datetime.now(UTC) + timedelta(days=4_000))  # there is still a default one
    assert past.left("csb_requests_audit_default") == {subject}
    assert retention.make_partitions(past.admin, months_ahead=20) == 0


def test_rows_on_both_sides_of_a_partition_stay_where_they_are(past: Past) -> None:
    early, late = new_id(), new_id()
    past.entry(early, LONG_AGO)
    past.entry(late, datetime.now(UTC) + timedelta(days=32 * 14))
    made = retention.make_partitions(past.admin, months_ahead=16)
    assert made > 0
    assert (
        past.left("csb_requests_audit") == past.left("csb_requests_audit_default") == {early, late}
    )
    assert retention.make_partitions(past.admin, months_ahead=16) == 0


def test_who_must_wait_for_the_audit_gives_up_soon(past: Past) -> None:
    past.partition("csb_requests_audit_2020_01", "2020-01-01", "2020-02-01", new_id())
    with acting(past.database, "csb_admin_user", autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM csb_app.csb_requests_audit")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            retention.drop_partition(past.admin)
    assert retention.drop_partition(past.admin) == "csb_requests_audit_2020_01"
