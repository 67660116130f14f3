"""Reads one request for its tenant, cache-aside: never a status older than one already shown."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

import orjson

from api_service.circuit import Circuit
from api_service.documents import request_bytes
from api_service.ended import EndedRequests
from api_service.grouping import Grouping, NotBegun, NotFinished
from csb_core import metrics, requests
from csb_core.cache import Filled, Hit, StatusCache
from csb_core.db import Pool, connection
from csb_core.errors import CacheUnavailable, NotFound
from csb_core.models import Request
from csb_core.states import FINAL, Status

log = logging.getLogger(__name__)

#: A row that moves between each read and its fill is answered uncached after so many tries.
_MOST_READS: Final = 4

#: Cached statuses that one MGET asks for.
_MOST_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A request as it is sent: the document, its version, and where it came from."""

    version: int
    document: bytes
    source: Literal["hit", "miss"]

    @property
    def is_final(self) -> bool:
        """Whether the request has ended."""
        return Status(orjson.loads(self.document)["status"]) in FINAL


class Reader:
    """The places where a request can be read, in their order: here, Redis, PostgreSQL."""

    def __init__(self, cache: StatusCache, pool: Pool, circuit: Circuit) -> None:
        self._cache = cache
        self._pool = pool
        self._circuit = circuit
        self._ended = EndedRequests()
        self._cached: Grouping[tuple[UUID, UUID], Hit | None] = Grouping(
            cache.read_many, most=_MOST_AT_ONCE, abreast=1, patience=timedelta(seconds=1)
        )

    def read(self, tenant_id: UUID, correlation_id: UUID) -> Shown:
        """Return the request; raises NotFound, StoreUnavailable."""
        ended = self._ended.find(tenant_id, correlation_id)
        if ended is not None:
            metrics.CACHE_READS.labels("hit").inc()
            return Shown(version=ended.version, document=ended.document, source="hit")
        shown = self._read(tenant_id, correlation_id)
        if shown.is_final:
            self._ended.keep(
                tenant_id, correlation_id, version=shown.version, document=shown.document
            )
        return shown

    def _read(self, tenant_id: UUID, correlation_id: UUID) -> Shown:
        if self._circuit.is_open:
            metrics.CACHE_READS.labels("unavailable").inc()
            return _shown(self._stored(tenant_id, correlation_id))
        try:
            hit = self._look(tenant_id, correlation_id)
            if hit is not None:
                metrics.CACHE_READS.labels("hit").inc()
                return Shown(version=hit.version, document=hit.document, source="hit")
            metrics.CACHE_READS.labels("miss").inc()
            return self._read_and_fill(tenant_id, correlation_id)
        except CacheUnavailable as exc:
            self._circuit.trip()
            metrics.CACHE_READS.labels("unavailable").inc()
            log.warning("cache.read_failed", extra={"reason": str(exc)})
            return _shown(self._stored(tenant_id, correlation_id))

    def _look(self, tenant_id: UUID, correlation_id: UUID) -> Hit | None:
        try:
            return self._cached.ask([(tenant_id, correlation_id)])[0]
        except (NotBegun, NotFinished) as exc:
            raise CacheUnavailable("Redis is too slow") from exc

    def _read_and_fill(self, tenant_id: UUID, correlation_id: UUID) -> Shown:
        """Read below a floor and fill before answering; a row overtaken meanwhile is read again."""
        shown = None
        for _ in range(_MOST_READS):
            floor = self._cache.prepare(correlation_id)
            request = self._stored(tenant_id, correlation_id)
            shown = _shown(request)
            filled = self._cache.fill(
                tenant_id,
                correlation_id,
                floor=floor,
                version=shown.version,
                status=request.status,
                document=shown.document,
            )
            metrics.CACHE_FILLS.labels(filled.value).inc()
            if filled is not Filled.STALE:
                break
        assert shown is not None
        return shown

    def _stored(self, tenant_id: UUID, correlation_id: UUID) -> Request:
        with connection(self._pool) as conn:
            request = requests.get(conn, tenant_id, correlation_id)
        if request is None:
            raise NotFound("your tenant has no request with this id")
        return request


def _shown(request: Request) -> Shown:
    return Shown(version=request.version, document=request_bytes(request), source="miss")
