"""A second provider, `tiny`, with the test's own actions: what a test asks of its line.

It has a role in the database and no line anywhere else in the platform; `Tiny` submits as the API
does, runs workers in this process, and looks at rows, trails and lists from outside.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
import psycopg.types.json
import redis
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import dict_row

from csb_core import keys, leases, requests
from csb_core.config import WorkerSettings
from csb_core.db import Connection
from csb_core.ids import new_id
from csb_core.leases import Candidate, End
from csb_core.models import Draft, Json, Lease, Message, Outcome, Succeeded
from csb_core.queue import Queue, encode
from csb_core.states import FINAL, Status
from csb_core.testing import Database, make_draft, make_tenant
from csb_core.worker.action import Action, Attempt
from csb_core.worker.companion import Companion
from csb_core.worker.fitness import fit
from csb_core.worker.main import WorkerProcess, create

PROVIDER = "tiny"
#: Short enough for tests; the ratios are those of the defaults.
QUICK = {
    "lease_seconds": 5,
    "heartbeat_seconds": 0.6,
    "rescue_seconds": 0.2,
    "block_seconds": 0.1,
    "grace_seconds": 10.0,
    "slots": 8,
    "pool_min": 1,
    "pool_max": 6,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An action made of a function."""

    do: Callable[[Lease, Attempt], Outcome]
    deadline: timedelta = timedelta(seconds=20)

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        return self.do(lease, attempt)


def done(lease: Lease, attempt: Attempt) -> Outcome:
    """The smallest action: all is well."""
    del attempt
    return Succeeded(result={"echo": lease.parameters}, changed=True)


NOOP: Mapping[str, Action] = {"noop": Act(do=done)}


@dataclass(slots=True, kw_only=True)
class Tiny:
    """The line of the provider `tiny` for one test."""

    database: Database
    redis_url: str
    tenant: UUID = field(init=False)
    redis: redis.Redis = field(init=False)
    _opened: dict[str, Connection] = field(default_factory=dict, init=False)
    _opening: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.tenant = make_tenant(self.database.admin)
        self.redis = redis.Redis.from_url(self.redis_url)

    def close(self) -> None:
        self.hang_up()
        self.redis.close()

    def hang_up(self) -> None:
        """Close the connections to PostgreSQL; they are made again when they are needed."""
        for conn in self._opened.values():
            conn.close()

    @property
    def url(self) -> str:
        """Where the worker's role logs in."""
        return self.database.aws.replace("csb_aws_user", f"csb_{PROVIDER}_user")

    @property
    def api(self) -> Connection:
        """An autocommit connection of the API's role."""
        return self._connection(self.database.api)

    @property
    def store(self) -> Connection:
        """An autocommit connection of the worker's role."""
        return self._connection(self.url)

    @property
    def superuser(self) -> Connection:
        """An autocommit connection that sees everything."""
        return self._connection(self.database.superuser)

    def _connection(self, url: str) -> Connection:
        with self._opening:  # actions look at rows as well, from their threads
            conn = self._opened.get(url)
            if conn is None or conn.closed:
                conn = self._opened[url] = psycopg.connect(url, autocommit=True)
            return conn

    # -- what the API does

    def draft(
        self, action: str = "noop", *, tenant: UUID | None = None, **parameters: Any
    ) -> Draft:
        payload = {"cloud_provider": PROVIDER, "action": action, "parameters": parameters}
        return make_draft(tenant or self.tenant, payload=payload)

    def another_tenant(self) -> UUID:
        """One more tenant, for `submit` and `backlog`."""
        return make_tenant(self.database.admin)

    def submit(
        self,
        count: int = 1,
        action: str = "noop",
        *,
        ring: bool = True,
        tenant: UUID | None = None,
        **parameters: Any,
    ) -> list[UUID]:
        """Insert requests, and ring for them unless told otherwise."""
        drafts = [self.draft(action, tenant=tenant, number=n, **parameters) for n in range(count)]
        for start in range(0, count, 1000):
            chunk = drafts[start : start + 1000]
            accepted = requests.insert(self.api, chunk)
            assert all(one.outcome == "created" for one in accepted)
            if ring:
                self.push(
                    *(
                        message_of(draft, at=one.rung_at)
                        for draft, one in zip(chunk, accepted, strict=True)
                    )
                )
        return [draft.correlation_id for draft in drafts]

    def backlog(self, count: int, *, ago: float, action: str = "noop", **parameters: Any) -> None:
        """So many requests that stand in the list, rung one a millisecond from so long ago on.

        They are made without the API's function and its audit, which would take far longer.
        """
        draft = self.draft(action, **parameters)
        with psycopg.connect(self.database.superuser) as conn:
            conn.execute("SET session_replication_role = replica")
            rows = conn.execute(
                """
                INSERT INTO csb_app.csb_requests
                       (correlation_id, tenant_id, cloud_provider, action, payload, digest,
                        requested_by, moved_by, request_id, rung_at, created_at)
                SELECT gen_random_uuid(), %(tenant)s, 'tiny', %(action)s, %(payload)s, %(digest)s,
                       'test', 'test', 'test', at, at
                  FROM generate_series(1, %(count)s) AS n,
                       LATERAL (SELECT now() - make_interval(secs => %(ago)s)
                                       + n * interval '1 ms' AS at) AS rung
                RETURNING correlation_id, rung_at
                """,
                {
                    "tenant": self.tenant,
                    "action": action,
                    "payload": psycopg.types.json.Json(draft.payload),
                    "digest": draft.digest,
                    "count": count,
                    "ago": ago,
                },
            ).fetchall()
        messages = [
            message_of(replace(draft, correlation_id=correlation_id), at=at)
            for correlation_id, at in sorted(rows, key=lambda row: row[1])
        ]
        for start in range(0, count, 2000):
            self.push(*messages[start : start + 2000])

    def push(self, *messages: bytes) -> None:
        self.redis.lpush(keys.queue(PROVIDER), *messages)

    def pop(self, most: int) -> list[bytes]:
        return Queue(self.redis, PROVIDER).deal(most).messages

    def standing(self) -> list[bytes]:
        """What stands: unsorted messages, then tenant by tenant, each newest first."""
        lists = [keys.queue(PROVIDER), *sorted(self.redis.keys(keys.tenants_queues("tiny") + "*"))]
        return [
            message
            for name in lists
            for message in cast("list[bytes]", self.redis.lrange(name, 0, -1))
        ]

    def message(self, correlation_id: UUID) -> bytes:
        """The message that rings for a row as it stands now."""
        row = self.row(correlation_id)
        message = Message(
            correlation_id=correlation_id,
            tenant_id=row["tenant_id"],
            attempt=row["attempt"],
            published_at=row["rung_at"],
            traceparent=row["traceparent"],
            payload=row["payload"],
        )
        return encode(message, row["digest"])

    # -- what a worker does, by hand

    def claim(self, *ids: UUID, worker: str = "w1", ttl: float = 60, **more: Any) -> list[Lease]:
        return leases.claim(
            self.store,
            [Candidate(correlation_id=i, digest=self.row(i)["digest"]) for i in ids],
            worker=worker,
            ttl=timedelta(seconds=ttl),
            **more,
        )

    def expire(self, *ids: UUID) -> None:
        """Let leases have run out."""
        self.superuser.execute(
            "UPDATE csb_app.csb_requests SET lease_expires_at = now() - interval '1 s'"
            " WHERE correlation_id = ANY (%s)",
            (list(ids),),
        )

    def age(self, seconds: float, *ids: UUID) -> None:
        """Let these requests, or all that are open, have been rung so long ago."""
        self.superuser.execute(
            "UPDATE csb_app.csb_requests SET rung_at = now() - make_interval(secs => %s)"
            " WHERE finished_at IS NULL AND (%s OR correlation_id = ANY (%s))",
            (seconds, not ids, list(ids)),
        )

    def times(self, ids: Sequence[UUID]) -> list[float]:
        """The seconds from POST to end of these, by the database's clock."""
        rows = self.superuser.execute(
            "SELECT extract(epoch FROM finished_at - created_at)::float8"
            "  FROM csb_app.csb_requests WHERE correlation_id = ANY (%s)",
            (list(ids),),
        ).fetchall()
        return sorted(row[0] for row in rows)

    def settings(self, **given: Any) -> WorkerSettings:
        return WorkerSettings(
            **{"database_url": self.url, "redis_url": self.redis_url, **QUICK, **given}
        )

    def worker(
        self,
        actions: Mapping[str, Action] = NOOP,
        *,
        probe: Callable[[], None] = fit,
        companion: Companion | None = None,
        **settings: Any,
    ) -> WorkerProcess:
        """A worker that is wired and not started."""
        return create(
            PROVIDER, actions, self.settings(**settings), probe=probe, companion=companion
        )

    @contextmanager
    def working(
        self, actions: Mapping[str, Action] = NOOP, **settings: Any
    ) -> Iterator[WorkerProcess]:
        """A worker that runs in this process until the block ends."""
        worker = self.worker(actions, **settings)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()

    # -- what one sees from outside

    def row(self, correlation_id: UUID) -> Json:
        with self.superuser.cursor(row_factory=dict_row) as cur:
            cur.adapters.register_loader("timestamptz", _Never)
            cur.execute(
                "SELECT * FROM csb_app.csb_requests WHERE correlation_id = %s", (correlation_id,)
            )
            row = cur.fetchone()
        assert row is not None
        return row

    def status(self, correlation_id: UUID) -> Status:
        return Status(self.row(correlation_id)["status"])

    def statuses(self) -> Counter[str]:
        rows = self.superuser.execute(
            "SELECT status, count(*) FROM csb_app.csb_requests GROUP BY 1"
        ).fetchall()
        return Counter(dict(rows))

    def trail(self, correlation_id: UUID) -> list[str]:
        """The audit as `PENDING>IN_PROGRESS`, or the name of an event that is no move."""
        rows = self.superuser.execute(
            """
            SELECT CASE WHEN event = 'moved' THEN from_status || '>' || to_status ELSE event END
              FROM csb_app.csb_requests_audit
             WHERE correlation_id = %s
             ORDER BY audit_id
            """,
            (correlation_id,),
        ).fetchall()
        return [row[0] for row in rows]

    def refs(self, correlation_id: UUID) -> list[tuple[int, str]]:
        return self.superuser.execute(
            "SELECT attempt, value FROM csb_app.csb_requests_ref WHERE correlation_id = %s"
            " ORDER BY ref_id",
            (correlation_id,),
        ).fetchall()

    def security_events(self) -> Counter[str]:
        rows = self.superuser.execute(
            "SELECT event, count(*) FROM csb_app.csb_security_events GROUP BY 1"
        ).fetchall()
        return Counter(dict(rows))

    def broken_trails(self) -> list[Any]:
        """Requests whose audit has a gap, or not exactly one end while they have ended."""
        return self.superuser.execute(
            """
            SELECT r.correlation_id, r.status, r.version, count(*), max(a.version)
              FROM csb_app.csb_requests r
              JOIN csb_app.csb_requests_audit a USING (correlation_id)
             WHERE a.event IN ('created', 'moved')
             GROUP BY r.correlation_id
            HAVING count(*) <> r.version
                OR max(a.version) <> r.version
                OR count(*) FILTER (WHERE a.to_status IN ('SUCCESS', 'FAILED', 'CANCELLED'))
                   <> (r.finished_at IS NOT NULL)::integer
            """
        ).fetchall()

    def depth(self) -> int:
        return Queue(self.redis, PROVIDER).depth()

    def await_ends(self, ids: Sequence[UUID], *, within: float = 15) -> Counter[str]:
        """Wait until all of them have ended; returns how many stand where."""

        def ended() -> bool:
            return not self.superuser.execute(
                "SELECT 1 FROM csb_app.csb_requests"
                " WHERE correlation_id = ANY (%s) AND finished_at IS NULL LIMIT 1",
                (list(ids),),
            ).fetchone()

        eventually(ended, within=within, why=lambda: f"not all ended: {self.statuses()}")
        rows = self.superuser.execute(
            "SELECT status, count(*) FROM csb_app.csb_requests"
            " WHERE correlation_id = ANY (%s) GROUP BY 1",
            (list(ids),),
        ).fetchall()
        assert {Status(status) for status, _ in rows} <= FINAL
        return Counter(dict(rows))


class _Never(Loader):
    """Reads timestamps, -infinity as well."""

    def load(self, data: Buffer) -> datetime:
        text = bytes(data).decode()
        return datetime.min.replace(tzinfo=UTC) if text == "-infinity" else _timestamp(text)


def _timestamp(text: str) -> datetime:
    return datetime.fromisoformat(text.replace(" ", "T"))


def emptied(database: Database) -> None:
    """Remove all rows, those that nobody else can remove as well."""
    with psycopg.connect(database.superuser) as conn:
        conn.execute("SET session_replication_role = replica")
        for table in (
            "csb_requests",
            "csb_requests_audit",
            "csb_requests_ref",
            "csb_security_events",
            "csb_target_accounts",
            "csb_tenants",
        ):
            conn.execute(sql.SQL("DELETE FROM csb_app.{}").format(sql.Identifier(table)))


def message_of(draft: Draft, *, at: datetime | None) -> bytes:
    """The message that the API publishes for a draft it has inserted."""
    assert at is not None
    message = Message(
        correlation_id=draft.correlation_id,
        tenant_id=draft.tenant_id,
        attempt=0,
        published_at=at,
        traceparent=draft.traceparent,
        payload=draft.payload,
    )
    return encode(message, draft.digest)


def make_lease(**given: Any) -> Lease:
    """A lease that was never claimed."""
    fields: Json = {
        "correlation_id": new_id(),
        "tenant_id": new_id(),
        "version": 2,
        "cloud_provider": PROVIDER,
        "action": "noop",
        "account_id": None,
        "principal": None,
        "parameters": {},
        "dry_run": False,
        "payload": {},
        "attempt": 1,
        "retries": 0,
        "max_attempts": 5,
        "token": 1,
        "traceparent": None,
        "requested_by": "testkey00000",
        "request_id": "req-test",
        "checkpoint": None,
        "target": None,
    }
    return Lease(**{**fields, **given})


def make_end(lease: Lease, **given: Any) -> End:
    """An end of this lease: SUCCESS, unless told otherwise; one that FAILED says why.

    What is given back tells nothing yet, as no outcome of an action makes it otherwise.
    """
    why = {"class": "TEST", "code": "failed", "message": "it failed", "retryable": False}
    has_ended = given.get("status") is not Status.PENDING
    fields: Json = {
        "correlation_id": lease.correlation_id,
        "token": lease.token,
        "status": Status.SUCCESS,
        "result": {"ok": True} if has_ended else None,
        "changed": True if has_ended else None,
        "error": why if given.get("status") is Status.FAILED else None,
        "wait": None,
        "counts_as_retry": False,
        "checkpoint": None,
        "refs": (),
    }
    return End(**{**fields, **given})


def eventually(
    holds: Callable[[], object], *, within: float = 10, why: Callable[[], str] = lambda: ""
) -> None:
    """Wait until something holds; fails with `why` when it does not in time."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, why() or "it did not come to hold in time"
        time.sleep(0.02)
