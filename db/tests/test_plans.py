"""How the line's statements find their rows in large tables, with statistics and without.

Without: nobody has analysed a table that was filled a moment ago. Workers keep one plan for all
values (force_generic_plan), so a bad one would stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import pytest
from db.tests import plans
from db.tests.conftest import Clone
from db.tests.plans import Statement
from db.tests.world import TTL, acting, draft, end_of, set_tenant

from csb_core import leases, oversight, request_search, requests, rescues
from csb_core.db import Connection
from csb_core.leases import Candidate
from csb_core.models import Draft, Lease
from csb_core.oversight import Narrowing
from csb_core.request_search import Filters
from csb_core.rescues import Bound
from csb_core.states import FINAL, Status
from csb_core.testing import Database, make_tenant

KEY: Final = "csb_requests_pkey"
OPEN: Final = "csb_requests_open"
TABLE: Final = "csb_app.csb_requests"
AGES_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
MARGIN: Final = timedelta(seconds=5)


#: What is rare in a long history, and how such a row comes about.
RARE: Final[Mapping[Status, str]] = {
    Status.PENDING: "status = 'PENDING'",
    Status.IN_PROGRESS: "status = 'IN_PROGRESS', lease_expires_at = now() + interval '1 hour'",
    Status.FAILED: "status = 'FAILED', finished_at = now(), changed = true, error = '{}'",
    Status.CANCELLED: "status = 'CANCELLED', finished_at = now()",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A table with many rows of one tenant: ended ones, waiting ones, and some that are held."""

    database: Database
    tenant: UUID
    quiet: UUID  # another tenant: a long history, and three requests in each other status
    waiting: Sequence[Draft]
    held: Sequence[Lease]

    @property
    def is_analysed(self) -> bool:
        """Whether the planner has statistics of the table."""
        with acting(self.database, "superuser") as conn:
            known = conn.execute("SELECT FROM pg_statistic WHERE starelid = %s::regclass", (TABLE,))
            return bool(known.fetchall())

    @property
    def pages(self) -> int:
        """How many pages a scan of the whole table would touch."""
        with acting(self.database, "superuser") as conn:
            size = conn.execute("SELECT pg_relation_size('csb_app.csb_requests') / 8192")
            return int(size.fetchall()[0][0])


def _fill(database: Database, *, rows: int, ended: int) -> Crowd:
    tenant, quiet = make_tenant(database.admin), make_tenant(database.admin)
    drafts = [draft(tenant) for _ in range(rows)]
    rare = [draft(quiet, "sandbox") for _ in range(3 * len(RARE))]
    past = [draft(quiet, "sandbox") for _ in range(ended // 8)]
    with acting(database, "superuser") as conn:
        conn.execute("ALTER TABLE csb_app.csb_requests SET (autovacuum_enabled = off)")
    with acting(database, "csb_api_user") as conn:
        for begin in range(0, rows, 5_000):
            requests.insert(conn, drafts[begin : begin + 5_000])
        requests.insert(conn, rare + past)  # what is rare is oldest: a search meets it last
    with acting(database, "superuser", autocommit=False) as conn:
        conn.execute("SET LOCAL session_replication_role = replica")  # history, without its trail
        conn.execute(
            """
            UPDATE csb_app.csb_requests
               SET status = 'SUCCESS', version = 3, finished_at = now(), changed = true
             WHERE correlation_id = ANY (%s)
            """,
            ([one.correlation_id for one in drafts[:ended] + past],),
        )
        for number, changes in enumerate(RARE.values()):
            conn.execute(
                f"UPDATE csb_app.csb_requests SET {changes} WHERE correlation_id = ANY (%s)",
                ([one.correlation_id for one in rare[number :: len(RARE)]],),
            )
        conn.commit()
    free = drafts[ended:]
    with acting(database, "csb_aws_user") as conn:
        held = leases.claim(conn, _candidates(free[-40:]), worker="w", ttl=TTL)
    return Crowd(database=database, tenant=tenant, quiet=quiet, waiting=free[:-40], held=held)


def _candidates(drafts: Sequence[Draft]) -> list[Candidate]:
    return [Candidate(correlation_id=d.correlation_id, digest=d.digest) for d in drafts]


@pytest.fixture(scope="module")
def crowd(clone: Clone) -> Iterator[Crowd]:
    with clone() as database:
        yield _fill(database, rows=50_000, ended=40_000)


@pytest.fixture(scope="module", params=["never analysed", "analysed"])
def large(crowd: Crowd, request: pytest.FixtureRequest) -> Crowd:
    """The crowd, first without statistics and then with them."""
    if request.param == "analysed":
        with acting(crowd.database, "superuser") as conn:
            conn.execute("ANALYZE csb_app.csb_requests")
    return crowd


@pytest.fixture(scope="module")
def enormous(clone: Clone) -> Iterator[Crowd]:
    """A tenant's backlog of two hundred thousand; one name in it stands only at its far end."""
    with clone() as database:
        crowd = _fill(database, rows=200_000, ended=0)
        with acting(database, "superuser") as conn:
            conn.execute(
                """
                UPDATE csb_app.csb_requests
                   SET principal_name = 'the-oldest'
                 WHERE correlation_id = %s
                """,
                (crowd.waiting[0].correlation_id,),
            )
            conn.execute("ANALYZE csb_app.csb_requests")
        yield crowd


#: What a worker sends; every row is named by its id.
BY_WORKERS: Final[Mapping[str, Callable[[Connection, Crowd], object]]] = {
    "claim": lambda conn, c: leases.claim(
        conn, _candidates(c.waiting[:40]), worker="w", ttl=TTL, alone=False
    ),
    "claim one": lambda conn, c: leases.claim(
        conn, _candidates(c.waiting[:1]), worker="w", ttl=TTL, alone=True
    ),
    "extend": lambda conn, c: leases.extend(
        conn, [(lease.correlation_id, lease.token) for lease in c.held], ttl=TTL
    ),
    "keep": lambda conn, c: leases.keep(
        conn, c.held[0].correlation_id, token=c.held[0].token, checkpoint={}, ttl=TTL
    ),
    "record": lambda conn, c: leases.record(
        conn, [end_of(lease, Status.SUCCESS) for lease in c.held], worker="w"
    ),
    "standing": lambda conn, c: leases.standing(
        conn, [one.correlation_id for one in c.waiting[:40]]
    ),
}

#: What the API sends inside a tenant's transaction.
BY_THE_API: Final[Mapping[str, Callable[[Connection, Crowd], object]]] = {
    "cancel": lambda conn, c: requests.cancel(conn, c.waiting[7].correlation_id, actor="k"),
    "refs": lambda conn, c: requests.refs(conn, c.held[0].correlation_id),
}


@pytest.mark.parametrize("name", BY_WORKERS)
def test_a_worker_finds_its_rows_by_their_ids(large: Crowd, name: str) -> None:
    with acting(large.database, "csb_aws_user") as conn:
        for statement in plans.sent_by(conn, lambda conn: BY_WORKERS[name](conn, large)):
            plan = plans.plan_of(conn, statement, analyse=True)
            assert plans.names_rows(plan, "csb_requests")
            assert plans.buffers(plan) < large.pages / 4


@pytest.mark.parametrize("plan_cache_mode", ["auto", "force_generic_plan"])
@pytest.mark.parametrize("name", BY_THE_API)
def test_the_api_finds_a_row_by_its_id(large: Crowd, name: str, plan_cache_mode: str) -> None:
    with acting(large.database, "csb_api_user") as conn, conn.transaction():
        set_tenant(conn, large.tenant)
        conn.execute("SELECT set_config('plan_cache_mode', %s, true)", (plan_cache_mode,))
        for statement in plans.sent_by(conn, lambda conn: BY_THE_API[name](conn, large)):
            plan = plans.plan_of(conn, statement)
            if "csb_requests_ref" not in statement.query:
                assert plans.names_rows(plan, "csb_requests")


@pytest.mark.parametrize(
    "call",
    [
        lambda conn, c: requests.get(conn, c.tenant, c.waiting[9].correlation_id),
        lambda conn, c: requests.insert(conn, [draft(c.tenant)]),
        lambda conn, c: requests.insert(
            conn, [draft(c.tenant, client_request_id="K") for _ in range(3)]
        ),
    ],
    ids=["get", "submit", "submit the same"],
)
def test_a_function_reads_no_more_than_the_rows_it_names(
    large: Crowd, call: Callable[[Connection, Crowd], object]
) -> None:
    """Plans inside functions are not shown, but PostgreSQL counts what a transaction reads."""
    with acting(large.database, "csb_api_user") as conn, conn.transaction(force_rollback=True):
        for _ in range(8):  # from the sixth call on, a function may keep a generic plan
            call(conn, large)
        assert plans.rows_read(conn, "csb_requests") < 200


@pytest.mark.parametrize("before", [None, 100])
def test_a_page_of_a_list_costs_a_page(large: Crowd, before: int | None) -> None:
    edge = None if before is None else large.waiting[before].correlation_id
    with acting(large.database, "csb_api_user") as conn, conn.transaction():
        set_tenant(conn, large.tenant)
        [statement] = plans.sent_by(
            conn, lambda conn: request_search.search(conn, Filters(), before=edge, limit=50)
        )
        plan = plans.plan_of(conn, statement, analyse=True)
    assert plan["Actual Rows"] == 51  # one more tells that there is another page
    assert plans.buffers(plan) < 200


def _pages_touched(conn: Connection, filters: Filters, before: UUID | None) -> int:
    """What every statement of a search touches."""
    sent = plans.sent_by(
        conn, lambda conn: request_search.search(conn, filters, before=before, limit=50)
    )
    return sum(plans.buffers(plans.plan_of(conn, one, analyse=True)) for one in sent)


@pytest.mark.parametrize("status", RARE)
def test_a_search_by_a_rare_status_reads_no_history(large: Crowd, status: Status) -> None:
    """But for open ones in a table without statistics: there each tenant is thought to be small."""
    with acting(large.database, "csb_api_user") as conn, conn.transaction():
        set_tenant(conn, large.quiet)
        filters = Filters(status=status)
        page = request_search.search(conn, filters, before=None, limit=50)
        assert [one.status for one in page.requests] == [status] * 3
        assert page.go_on_before is None
        for before in (None, page.requests[1].correlation_id):
            touched = _pages_touched(conn, filters, before)
            assert touched < 150 or (status not in FINAL and not large.is_analysed)


def test_a_search_by_a_usual_status_reads_a_page(large: Crowd) -> None:
    """Success is usual in a history, and what waits is in a backlog."""
    with acting(large.database, "csb_api_user") as conn, conn.transaction():
        for tenant, status in ((large.quiet, Status.SUCCESS), (large.tenant, Status.PENDING)):
            set_tenant(conn, tenant)
            page = request_search.search(conn, Filters(status=status), before=None, limit=50)
            assert [one.status for one in page.requests] == [status] * 50
            assert page.go_on_before == page.requests[-1].correlation_id
        set_tenant(conn, large.quiet)
        assert _pages_touched(conn, Filters(status=Status.SUCCESS), None) < large.pages / 4


def test_what_failed_is_found_without_a_look_at_history(large: Crowd) -> None:
    with acting(large.database, "csb_admin_user") as conn:
        narrowing = Narrowing(tenant_id=large.quiet)
        [statement] = plans.sent_by(
            conn, lambda conn: oversight.find_failures(conn, narrowing, limit=100)
        )
        plan = plans.plan_of(conn, statement, analyse=True)
    assert plan["Actual Rows"] == 3
    assert plans.buffers(plan) < 150


def test_a_trail_is_read_by_its_request(large: Crowd) -> None:
    with acting(large.database, "csb_api_user") as conn, conn.transaction():
        set_tenant(conn, large.tenant)
        [statement] = plans.sent_by(
            conn, lambda conn: requests.audit(conn, large.held[0].correlation_id)
        )
        plan = plans.plan_of(conn, statement, analyse=True)
    assert plan["Actual Rows"] == 2
    assert plans.buffers(plan) < 100


def _rescue(
    oldest: datetime | None, bounds: Sequence[Bound] = ()
) -> Callable[[Connection], object]:
    return lambda conn: rescues.rescue(
        conn, "aws", worker="w", oldest=oldest, bounds=bounds, margin=MARGIN, room=500
    )


def _plan_of_rescue(crowd: Crowd, oldest: datetime | None) -> tuple[set[str], int]:
    with acting(crowd.database, "csb_aws_user") as conn:
        [statement] = plans.sent_by(conn, _rescue(oldest))
        plan = plans.plan_of(conn, statement, analyse=True)
        return plans.reads(plan, "csb_requests"), plans.buffers(plan)


@pytest.mark.parametrize("oldest", [None, AGES_AGO], ids=["empty list", "long list"])
def test_the_rescuer_reads_what_is_open_by_its_last_ring(
    large: Crowd, oldest: datetime | None
) -> None:
    assert _plan_of_rescue(large, oldest)[0] == {OPEN, KEY}


def test_a_backlog_that_was_rung_costs_the_rescuer_nothing(large: Crowd) -> None:
    with acting(large.database, "csb_aws_user") as conn, conn.transaction(force_rollback=True):
        assert _rescue(AGES_AGO)(conn) == []
    assert _plan_of_rescue(large, AGES_AGO)[1] < 50


def test_a_backlog_that_was_sorted_costs_the_rescuer_nothing(large: Crowd) -> None:
    """Nothing is unsorted, so every other tenant is looked at up to now; this one is not."""
    bounds = [Bound(tenant_id=large.tenant, oldest=AGES_AGO, room=500)]
    with acting(large.database, "csb_aws_user") as conn:
        with conn.transaction(force_rollback=True):
            assert _rescue(None, bounds)(conn) == []
        [statement] = plans.sent_by(conn, _rescue(None, bounds))
        _assert_cheap(conn, statement, 60)


def test_the_rescuer_steps_from_tenant_to_tenant(large: Crowd) -> None:
    """Its cost grows with the tenants that have open requests: a few pages each."""
    crowd = [make_tenant(large.database.admin, account_id=None) for _ in range(200)]
    bounds = [Bound(tenant_id=tenant, oldest=AGES_AGO, room=500) for tenant in crowd]
    bounds.append(Bound(tenant_id=large.tenant, oldest=AGES_AGO, room=500))
    with acting(large.database, "csb_api_user") as conn:
        requests.insert(conn, [draft(tenant) for tenant in crowd for _ in range(2)])
    with acting(large.database, "csb_aws_user") as conn:
        [statement] = plans.sent_by(conn, _rescue(None, bounds))
        _assert_cheap(conn, statement, 20 * len(bounds))


def test_what_is_open_can_be_counted_without_a_look_at_history(large: Crowd) -> None:
    with acting(large.database, "csb_admin_user") as conn:
        conn.execute("SET enable_seqscan = off")  # is there another way at all?
        [statement] = plans.sent_by(conn, oversight.open_work)
        found = plans.reads(plans.plan_of(conn, statement), "csb_requests")
    assert found - {"Bitmap Heap Scan"} == {OPEN}


#: What a claim or a heartbeat writes.
CLAIMED: Final = {
    "status", "version", "attempt", "alone", "lease_token", "lease_owner", "lease_expires_at",
    "moved_by", "updated_at", "started_at",
}  # fmt: skip


def test_a_claim_is_a_hot_update(large: Crowd) -> None:
    """One row of each page is claimed, so that each finds room beside it."""
    query = """
        SELECT pg_stat_get_xact_tuples_updated(t.oid), pg_stat_get_xact_tuples_hot_updated(t.oid)
          FROM (SELECT to_regclass('csb_app.csb_requests')) t (oid)
    """
    with acting(large.database, "csb_aws_user", autocommit=False) as conn:
        taken = leases.claim(conn, _candidates(large.waiting[::97]), worker="w", ttl=TTL)
        [(updated, hot)] = conn.execute(query).fetchall()
        conn.rollback()
    assert updated == len(taken) == len(large.waiting[::97]) > 90
    assert hot > updated * 0.9


def test_claiming_and_extending_leave_every_index_alone(large: Crowd) -> None:
    """A HOT update writes no index: the reason why no index names the status or the lease."""
    query = """
        SELECT pg_stat_get_xact_tuples_updated(t.oid), pg_stat_get_xact_tuples_hot_updated(t.oid)
          FROM (SELECT to_regclass('csb_app.csb_requests')) t (oid)
    """
    columns = """
        SELECT DISTINCT a.attname
          FROM pg_index i
          JOIN pg_depend d ON d.objid = i.indexrelid AND d.refobjid = i.indrelid
          JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         WHERE i.indrelid = 'csb_app.csb_requests'::regclass
    """
    with acting(large.database, "csb_aws_user", autocommit=False) as conn:
        indexed = {row[0] for row in conn.execute(columns)}
        assert indexed.isdisjoint(CLAIMED)
        assert {"error", "changed", "finished_at"} <= indexed  # so their predicates are seen, too
        # A row that was just claimed has room beside it, and its rung_at does not change again.
        held = [(lease.correlation_id, lease.token) for lease in large.held]
        leases.extend(conn, held, ttl=TTL)
        [(updated, hot)] = conn.execute(query).fetchall()
        conn.rollback()
    assert updated == len(held)
    assert hot >= updated / 2


@pytest.mark.slow
def test_two_hundred_thousand_waiting_requests_are_not_read_by_the_rescuer(clone: Clone) -> None:
    with clone() as database:
        crowd = _fill(database, rows=200_000, ended=0)
        for analysed in (False, True):
            if analysed:
                with acting(database, "superuser") as conn:
                    conn.execute("ANALYZE csb_app.csb_requests")
            sorted_ones = [Bound(tenant_id=crowd.tenant, oldest=AGES_AGO, room=500)]
            for oldest, bounds, most in (
                (AGES_AGO, [], 60),
                (None, sorted_ones, 60),
                (None, [], crowd.pages * 2),
            ):
                with acting(database, "csb_aws_user") as conn:
                    conn.execute("SET statement_timeout = 0")
                    with conn.transaction(force_rollback=True):
                        found = _rescue(oldest, bounds)(conn)
                    [statement] = plans.sent_by(conn, _rescue(oldest, bounds))
                    _assert_cheap(conn, statement, most)
                assert found == [] or (oldest is None and not bounds)


def _assert_cheap(conn: Connection, statement: Statement, most: int) -> None:
    plan = plans.plan_of(conn, statement, analyse=True)
    assert plans.reads(plan, "csb_requests") == {OPEN, KEY}
    assert plans.buffers(plan) <= most


@pytest.mark.slow
@pytest.mark.parametrize(
    "filters",
    [
        Filters(status=Status.SUCCESS),
        Filters(action="burn"),
        Filters(status=Status.PENDING, account_id="000000000000"),
        Filters(created_to=AGES_AGO),
    ],
    ids=["status", "action", "open and account", "time"],
)
def test_no_page_looks_through_two_hundred_thousand_requests(
    enormous: Crowd, filters: Filters
) -> None:
    """What nothing answers to is looked for in pages, each of them cheap, up to the end."""
    with acting(enormous.database, "csb_api_user") as conn, conn.transaction():
        set_tenant(conn, enormous.tenant)
        assert _pages_touched(conn, filters, None) < enormous.pages / 3
        pages, before = 0, None
        while pages == 0 or before is not None:
            page = request_search.search(conn, filters, before=before, limit=50)
            assert list(page.requests) == []
            pages, before = pages + 1, page.go_on_before
    assert pages == 200_000 // request_search.MOST_LOOKED_AT[-1] + 1


@pytest.mark.slow
def test_the_rarest_is_found_where_a_search_goes_on(enormous: Crowd) -> None:
    with acting(enormous.database, "csb_api_user") as conn, conn.transaction():
        set_tenant(conn, enormous.tenant)
        oldest, before = enormous.waiting[0].correlation_id, None
        for _ in range(20):
            filters = Filters(principal_name="the-oldest")
            page = request_search.search(conn, filters, before=before, limit=50)
            before = page.go_on_before
            if page.requests:
                break
        assert [one.correlation_id for one in page.requests] == [oldest]
