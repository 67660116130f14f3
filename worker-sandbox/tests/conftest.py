"""The servers that these tests run against, a sandbox of their own, and tenants with utils."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from csb_core import leases, requests
from csb_core.db import Pool, connection, open_pool
from csb_core.leases import Candidate
from csb_core.models import Draft, Lease, Message, Request
from csb_core.queue import Queue, connect, encode
from csb_core.testing import (
    Database,
    database,
    make_tenant,
    make_util,
    make_util_draft,
    postgres,
    redis_server,
    redis_url,
    template,
)
from worker_sandbox.keeper import Keeper
from worker_sandbox.meter import Meter
from worker_sandbox.settings import JailSettings

__all__ = ["database", "postgres", "redis_server", "redis_url", "template"]

SECONDS = timedelta(seconds=5)


@pytest.fixture(scope="session")
def keeper() -> Iterator[Keeper]:
    """A sandbox that has passed its self-test."""
    kept = Keeper(settings=JailSettings(), meter=Meter(most_series=100))
    kept.probe()
    yield kept
    kept.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant, and the store as the API and as the worker see it."""

    database: Database
    tenant_id: UUID
    api: Pool
    sandbox: Pool
    bell: Queue

    def util(self, code: str, **more: Any) -> UUID:
        return make_util(self.database.api, self.tenant_id, code, **more)

    def accepted(self, util_id: UUID, given: Any = None, **more: Any) -> Draft:
        """A row that waits, of a request to run this util."""
        draft = make_util_draft(self.database.api, self.tenant_id, util_id, input=given, **more)
        with connection(self.api) as conn:
            (accepted,) = requests.insert(conn, [draft])
        assert accepted.outcome == "created"
        return draft

    def leased(self, util_id: UUID, given: Any = None, **more: Any) -> Lease:
        """That row, claimed by us."""
        draft = self.accepted(util_id, given, **more)
        wanted = Candidate(correlation_id=draft.correlation_id, digest=draft.digest)
        with connection(self.sandbox) as conn:
            (lease,) = leases.claim(conn, [wanted], worker="test", ttl=timedelta(minutes=5))
        return lease

    def ring(self, *drafts: Draft) -> None:
        """Publish a message for each."""
        with connection(self.api) as conn:
            row = conn.execute("SELECT now()").fetchone()
        assert row is not None
        messages = [
            Message(
                correlation_id=draft.correlation_id,
                tenant_id=draft.tenant_id,
                attempt=0,
                published_at=row[0],
                traceparent=None,
                payload=draft.payload,
            )
            for draft in drafts
        ]
        self.bell.publish(
            [encode(m, draft.digest) for m, draft in zip(messages, drafts, strict=True)]
        )

    def submit(self, util_id: UUID, given: Any = None, **more: Any) -> UUID:
        draft = self.accepted(util_id, given, **more)
        self.ring(draft)
        return draft.correlation_id

    def request(self, correlation_id: UUID) -> Request:
        with connection(self.api) as conn:
            found = requests.get(conn, self.tenant_id, correlation_id)
        assert found is not None
        return found


@pytest.fixture
def tenants(database: Database, redis_url: str) -> Iterator[tuple[Tenant, Tenant]]:
    """Two tenants who know nothing of each other."""
    api = open_pool(database.api, name="test-api", least=1, most=4, timeout=SECONDS)
    sandbox = open_pool(database.sandbox, name="test-sandbox", least=1, most=4, timeout=SECONDS)
    redis = connect(redis_url, timeout=SECONDS)
    first, second = (
        Tenant(
            database=database,
            tenant_id=make_tenant(database.admin),
            api=api,
            sandbox=sandbox,
            bell=Queue(redis, "sandbox"),
        )
        for _ in range(2)
    )
    yield first, second
    for pool in (api, sandbox):
        pool.close()
    redis.close()


@pytest.fixture
def tenant(tenants: tuple[Tenant, Tenant]) -> Tenant:
    return tenants[0]
