"""What the bench itself does in the platform's database: fill, look, count, clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql

from bench.failure import BenchFailed
from bench.servers import Platform
from csb_core import queue, requests
from csb_core.models import Draft, Message
from csb_core.queue import Queue, encode
from csb_core.requests import Accepted
from csb_core.testing import make_draft, make_payload

_CHUNK: Final = 1_000
_PRINCIPAL: Final = {"type": "user", "name": "on-call-engineer-of-the-week"}


def payload(**fields: Any) -> dict[str, Any]:
    """The body of every POST: with what the platform adds, its message takes 590 bytes."""
    return make_payload(principal=_PRINCIPAL, **fields)


def message(draft: Draft, answer: Accepted) -> bytes:
    """The message that the API publishes for an accepted draft."""
    assert answer.rung_at is not None
    return encode(
        Message(
            correlation_id=draft.correlation_id,
            tenant_id=draft.tenant_id,
            attempt=0,
            published_at=answer.rung_at,
            traceparent=draft.traceparent,
            payload=draft.payload,
        ),
        draft.digest,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One platform's database in the superuser's hands; what is older than `since` stays."""

    platform: Platform
    conn: psycopg.Connection[Any]

    def now(self) -> UUID:
        """An id that every later one exceeds, and every earlier one does not."""
        now: UUID = self._one("SELECT uuidv7()")
        return now

    def clear(self, since: UUID) -> None:
        """Remove every request that was made after this id, and leave no dead row behind."""
        removed = 0
        with self.conn.transaction():
            self.conn.execute("SET LOCAL session_replication_role = replica")
            for table in ("csb_requests", "csb_requests_audit", "csb_requests_ref"):
                removed += self.conn.execute(
                    sql.SQL("DELETE FROM csb_app.{} WHERE correlation_id > %s").format(
                        sql.Identifier(table)
                    ),
                    (since,),
                ).rowcount
        if removed:
            self.conn.execute("VACUUM (ANALYZE) csb_app.csb_requests, csb_app.csb_requests_audit")

    def fill_waiting(self, redis_url: str, count: int, *, name: str = "drain") -> None:
        """Accept requests as the API does, then publish them all; a name fills but once.

        Whoever is at work already begins with a list that is full.
        """
        client = queue.connect(redis_url, timeout=timedelta(seconds=10))
        bell, waiting = Queue(client, "aws"), []
        with psycopg.connect(self.platform.urls.api, autocommit=True) as conn, client:
            for first in range(0, count, _CHUNK):
                drafts = [
                    make_draft(
                        self.platform.tenant_id,
                        payload=payload(client_request_id=f"{name}-{n:012d}"),
                        client_request_id=f"{name}-{n:012d}",
                    )
                    for n in range(first, min(first + _CHUNK, count))
                ]
                accepted = requests.insert(conn, drafts)
                waiting += [message(*pair) for pair in zip(drafts, accepted, strict=True)]
            for first in range(0, count, _CHUNK):
                bell.publish(waiting[first : first + _CHUNK])

    def open_requests(self) -> int:
        """How many requests have not ended."""
        count: int = self._one(
            "SELECT count(*) FROM csb_app.csb_requests WHERE finished_at IS NULL"
        )
        return count

    def have_ended(self, ids: Sequence[UUID]) -> bool:
        """Whether none of these is open."""
        is_open: bool = self._one(
            """
            SELECT EXISTS (SELECT
                             FROM csb_app.csb_requests
                            WHERE correlation_id = ANY (%s) AND finished_at IS NULL)
            """,
            (list(ids),),
        )
        return not is_open

    def finished_between(self, began: float, ended: float) -> int:
        """How many requests ended well within these moments of the wall clock."""
        count: int = self._one(
            """
            SELECT count(*)
              FROM csb_app.csb_requests
             WHERE finished_at >= to_timestamp(%s) AND finished_at < to_timestamp(%s)
               AND status = 'SUCCESS'
            """,
            (began, ended),
        )
        return count

    def drained(self, since: UUID, count: int) -> float:
        """Seconds from the first claim to the last end; raises BenchFailed when anything lacks."""
        row = self.conn.execute(
            """
            SELECT count(*) FILTER (WHERE status = 'SUCCESS' AND attempt = 1),
                   extract(epoch FROM max(finished_at) - min(started_at))::float8
              FROM csb_app.csb_requests
             WHERE correlation_id > %s
            """,
            (since,),
        ).fetchone()
        assert row is not None
        trail = self._one(
            "SELECT count(*) FROM csb_app.csb_requests_audit WHERE correlation_id > %s", (since,)
        )
        if row[0] != count or trail != 3 * count:
            raise BenchFailed(f"of {count} requests {row[0]} ended well, with {trail} audit rows")
        seconds: float = row[1]
        return seconds

    def times(self, ids: Sequence[UUID]) -> dict[UUID, tuple[float, float]]:
        """When these requests were created and finished; raises BenchFailed when one is not."""
        rows = self.conn.execute(
            """
            SELECT correlation_id, extract(epoch FROM created_at)::float8,
                   extract(epoch FROM finished_at)::float8
              FROM csb_app.csb_requests
             WHERE correlation_id = ANY (%s) AND status = 'SUCCESS'
            """,
            (list(ids),),
        ).fetchall()
        if len(rows) != len(ids):
            raise BenchFailed(f"of {len(ids)} requests {len(rows)} ended well")
        return {row[0]: (row[1], row[2]) for row in rows}

    def some_ids(self, count: int) -> list[str]:
        """Ids of finished requests of our tenant, from anywhere in the table, in no order."""
        rows = self.conn.execute(
            """
            SELECT correlation_id::text
              FROM csb_app.csb_requests
             WHERE tenant_id = %s AND status = 'SUCCESS'
             ORDER BY random()
             LIMIT %s
            """,
            (self.platform.tenant_id, count),
        ).fetchall()
        if len(rows) < count:
            raise BenchFailed(f"{count} finished requests are wanted and {len(rows)} there")
        return [row[0] for row in rows]

    def _one(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        row = self.conn.execute(query, parameters).fetchone()
        assert row is not None
        return row[0]
