"""A small world to look at from every role: two tenants, two providers, every status, utils."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from csb_core import leases, requests, rescues, util_rules, util_shares
from csb_core.db import Connection
from csb_core.leases import Candidate, End
from csb_core.models import Draft, Json, Lease, Ref
from csb_core.states import FINAL, Status
from csb_core.testing import (
    Database,
    as_tenant,
    make_api_key,
    make_draft,
    make_tenant,
    make_util,
)
from csb_core.util_models import Content

PROVIDERS: Final = ("aws", "sandbox")
TTL: Final = timedelta(minutes=5)
FAULT: Final[Json] = {"class": "THROTTLED", "code": "x", "message": "later", "retryable": True}

#: Every role that can act on the database, and how it gets there: its login, then SET ROLE.
ROLES: Final[Mapping[str, tuple[str, str | None]]] = {
    "csb_api_user": ("api", None),
    "csb_aws_user": ("aws", None),
    "csb_sandbox_user": ("sandbox", None),
    "csb_admin_user": ("admin", None),
    "csb_migrator": ("migrator", None),
    "csb_owner": ("migrator", "csb_owner"),
    "csb_worker": ("aws", "csb_worker"),
    "csb_backup_user": ("superuser", "csb_backup_user"),
    "superuser": ("superuser", None),
}
SERVICES: Final = ("csb_api_user", "csb_aws_user", "csb_sandbox_user", "csb_admin_user")
WORKERS: Final = {"csb_aws_user": "aws", "csb_sandbox_user": "sandbox"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Two tenants, each with a key, an account and a request in every status at each provider.

    Each has a util as well, shared with a third tenant and not with the other, and a rule.
    """

    database: Database
    ours: UUID
    theirs: UUID
    requests: Mapping[tuple[UUID, str, Status], UUID]
    utils: Mapping[UUID, UUID]

    def of(self, provider: str, status: Status, tenant: UUID | None = None) -> UUID:
        """The request of our tenant (or of another) at this provider in this status."""
        return self.requests[tenant or self.ours, provider, status]


def make_world(database: Database) -> World:
    """Fill an empty database by the ordinary ways, each step as the role whose step it is."""
    ours, theirs = (make_tenant(database.admin) for _ in range(2))
    with acting(database, "csb_admin_user") as conn:
        for tenant_id in (ours, theirs):
            make_api_key(database.admin, tenant_id)
            conn.execute(
                """
                INSERT INTO csb_app.csb_target_accounts
                       (tenant_id, cloud_provider, account_id, role_arn, external_id)
                VALUES (%s, 'sandbox', 'box', 'none', 'none')
                """,
                (tenant_id,),
            )
    drafts = {
        (tenant_id, provider, status): draft(tenant_id, provider)
        for tenant_id, provider, status in product((ours, theirs), PROVIDERS, Status)
    }
    with acting(database, "csb_api_user") as conn:
        requests.insert(conn, list(drafts.values()))
        for (_, _, status), one in drafts.items():
            if status is Status.CANCELLED:
                cancel(conn, one)
    for role, of in WORKERS.items():
        with acting(database, role) as conn:
            for (_, provider, status), one in drafts.items():
                if provider == of and status not in {Status.PENDING, Status.CANCELLED}:
                    lease = claim(conn, one)
                    if status in FINAL:
                        leases.record(conn, [end_of(lease, status)], worker="w")
            rescues.report_security_event(conn, "message_unknown", None, worker="w", detail={})
    made = {key: one.correlation_id for key, one in drafts.items()}
    utils = _make_utils(database, ours, theirs)
    return World(database=database, ours=ours, theirs=theirs, requests=made, utils=utils)


def _make_utils(database: Database, *tenants: UUID) -> dict[UUID, UUID]:
    third = make_tenant(database.admin)
    utils = {tenant_id: make_util(database.api, tenant_id) for tenant_id in tenants}
    for tenant_id, util_id in utils.items():
        with as_tenant(database.api, tenant_id) as conn:
            util_shares.share(conn, util_id, third, permission="edit", by="k")
            util_rules.put(
                conn, "R1", severity="error", kind="forbid_name", pattern="x", message="", by="k"
            )
    return utils


@contextmanager
def acting(database: Database, role: str, *, autocommit: bool = True) -> Iterator[Connection]:
    """A connection that acts as this role."""
    login, then = ROLES[role]
    with psycopg.connect(getattr(database, login), autocommit=True) as conn:
        if then is not None:
            conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(then)))
        conn.autocommit = autocommit
        yield conn


def set_tenant(conn: Connection, tenant_id: UUID | str) -> None:
    """Open the running transaction for a tenant."""
    conn.execute("SELECT set_config('csb.tenant_id', %s, true)", (str(tenant_id),))


def draft(tenant_id: UUID, provider: str = "aws", **more: Any) -> Draft:
    """A draft for this provider."""
    if provider == "sandbox":
        more = {"cloud_provider": "sandbox", "account_id": None, **more}
    return make_draft(tenant_id, **more)


def submit(database: Database, *drafts: Draft) -> None:
    """Make rows of these drafts, which must all be new."""
    with acting(database, "csb_api_user") as conn:
        assert {one.outcome for one in requests.insert(conn, drafts)} == {"created"}


def cancel(conn: Connection, one: Draft) -> None:
    """Cancel this request, which must wait."""
    with conn.transaction():
        set_tenant(conn, one.tenant_id)
        assert requests.cancel(conn, one.correlation_id, actor="canceller")


def claim(conn: Connection, one: Draft, *, worker: str = "w") -> Lease:
    """Claim this request, which must be free."""
    candidate = Candidate(correlation_id=one.correlation_id, digest=one.digest)
    [lease] = leases.claim(conn, [candidate], worker=worker, ttl=TTL)
    return lease


def end_of(lease: Lease, status: Status, **changes: Any) -> End:
    """An end of this attempt; PENDING gives it back for another try in a minute."""
    values: dict[str, Any] = {
        "correlation_id": lease.correlation_id,
        "token": lease.token,
        "status": status,
        "result": {"done": True} if status is Status.SUCCESS else None,
        "changed": True if status is Status.SUCCESS else None,
        "error": None if status is Status.SUCCESS else FAULT,
        "wait": timedelta(minutes=1) if status is Status.PENDING else None,
        "counts_as_retry": status is Status.PENDING,
        "checkpoint": None,
        "refs": (Ref(type="request_id", value="r-1", service="iam", operation="X"),),
        **changes,
    }
    return End(**values)


def trail_of(database: Database, *drafts: Draft) -> list[dict[str, Any]]:
    """What stands in the trail of these requests, oldest first, and which transaction wrote it."""
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


def outcome(conn: Connection, statement: str, *values: object) -> str:
    """What one statement comes to, undone again: `denied`, `hidden`, another error, or its rows.

    `denied` is a missing grant, `hidden` a row that the policies refuse.
    """
    try:
        with conn.transaction(force_rollback=True):
            return f"{conn.execute(statement, values).rowcount} rows"
    except psycopg.errors.InsufficientPrivilege as exc:
        message = exc.diag.message_primary or ""
        if "append-only" in message:
            return "append-only"
        return "hidden" if "row-level security" in message else "denied"
    except psycopg.Error as exc:
        return exc.diag.constraint_name or type(exc).__name__


def carry_out(database: Database, one: Draft, status: Status = Status.SUCCESS) -> None:
    """Bring a new request of the sandbox to this end."""
    submit(database, one)
    with acting(database, "csb_sandbox_user") as conn:
        leases.record(conn, [end_of(claim(conn, one), status)], worker="w")


def content(**more: Any) -> Content:
    """The content of a valid version without test cases."""
    return Content(
        **{
            "code": "def transform(data):\n    return data\n",
            "parameters": {},
            "execution_config": {},
            "validation": {"is_valid": True, "validation_errors": [], "security_score": 100},
            **more,
        }
    )
