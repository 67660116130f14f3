"""A util's code by its digest: in this process, in Redis, in PostgreSQL, in this order.

What stands under a digest never changes, so nothing has to be invalidated; entries expire to make
room. Nobody's word is taken for it: whatever Redis or PostgreSQL gives is digested again, and what
is not what its name says is not executed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import orjson
import redis

from csb_core import claimed_utils, keys, metrics
from csb_core.claimed_utils import UtilCode, code_digest
from csb_core.db import Pool, connection
from csb_core.errors import BridgeError, LeaseLost
from csb_core.faults import Invalid
from csb_core.models import Json, Lease, PinnedUtil
from csb_core.queue import Redis
from csb_core.util_models import UtilKind
from csb_core.value_schema import ValueSchema, compiled

logger = logging.getLogger(__name__)

REDIS_TTL: Final = timedelta(hours=1)
#: How long Redis is left alone after it has not answered.
PAUSE_SECONDS: Final = 1.0


class CodeUnusable(BridgeError):
    """What is stored for a version is not what its digest says, or cannot be used."""

    code = "util_code_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A util's code, ready to be executed, and the schema that its results must fit."""

    kind: UtilKind
    code: str
    output_schema: ValueSchema | None
    size: int


@dataclass(slots=True)
class _Entry:
    prepared: Prepared
    until: float


@dataclass(slots=True, kw_only=True)
class CodeCache:
    """Shared by the threads of a process."""

    pool: Pool
    redis: Redis
    most_bytes: int
    ttl: timedelta
    #: Redis must not evict (it holds the queues), so whoever caches there watches its memory.
    has_room: Callable[[], bool]
    _kept: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _silent_until: float = 0.0

    def code_of(self, lease: Lease, util: PinnedUtil) -> Prepared:
        """Return what this request runs.

        Raises LeaseLost when the request is not ours any more, StoreUnavailable, CodeUnusable.
        """
        known = self._in_process(util.digest)
        if known is not None:
            return known
        document = self._in_redis(util.digest)
        if document is None:
            document = authentic(fetch(self.pool, lease), util)
            metrics.UTIL_CACHE.labels("store", "hit").inc()
            self._tell_redis(util.digest, document)
        prepared = prepared_of(document)
        self._keep(util.digest, prepared)
        return prepared

    def _in_process(self, digest: str) -> Prepared | None:
        now = time.monotonic()
        with self._lock:
            entry = self._kept.get(digest)
            if entry is not None and entry.until > now:
                self._kept.move_to_end(digest)
                metrics.UTIL_CACHE.labels("process", "hit").inc()
                return entry.prepared
        metrics.UTIL_CACHE.labels("process", "miss").inc()
        return None

    def _keep(self, digest: str, prepared: Prepared) -> None:
        if prepared.size > self.most_bytes:
            return
        with self._lock:
            self._drop(digest)
            self._kept[digest] = _Entry(prepared, time.monotonic() + self.ttl.total_seconds())
            self._bytes += prepared.size
            while self._bytes > self.most_bytes:
                self._drop(next(iter(self._kept)))

    def _drop(self, digest: str) -> None:
        entry = self._kept.pop(digest, None)
        if entry is not None:
            self._bytes -= entry.prepared.size

    def _in_redis(self, digest: str) -> Json | None:
        """Read a document that digests to its name; Redis away is a miss like any other."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            stored: Any = self.redis.get(keys.util(digest))
        except (redis.RedisError, OSError) as exc:
            self._fell_silent(exc)
            return None
        if stored is None:
            metrics.UTIL_CACHE.labels("redis", "miss").inc()
            return None
        document = _read(stored)
        if document is None or not _is(document, digest):
            metrics.UTIL_CACHE.labels("redis", "corrupt").inc()
            logger.error("security.util_cache_forged", extra={"digest": digest})
            return None
        metrics.UTIL_CACHE.labels("redis", "hit").inc()
        return document

    def _tell_redis(self, digest: str, document: Json) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            if self.has_room():
                self.redis.set(keys.util(digest), orjson.dumps(document), ex=REDIS_TTL)
        except (redis.RedisError, OSError) as exc:
            self._fell_silent(exc)

    def _fell_silent(self, exc: Exception) -> None:
        """Ask it no more for a moment: each of many executions would wait for its timeout."""
        self._silent_until = time.monotonic() + PAUSE_SECONDS
        metrics.UTIL_CACHE.labels("redis", "unavailable").inc()
        logger.warning("cache.unavailable", extra={"reason": type(exc).__name__})


def fetch(pool: Pool, lease: Lease) -> UtilCode:
    """Read the version that this claim pins; raises LeaseLost, StoreUnavailable."""
    with connection(pool) as conn:
        found = claimed_utils.fetch(conn, lease.correlation_id, lease.token)
    if found is None:
        raise LeaseLost(f"the lease on {lease.correlation_id} is not ours any more")
    return found


def authentic(found: UtilCode, util: PinnedUtil) -> Json:
    """Return what the digest is made of; raises CodeUnusable when that has another one."""
    document = {
        "kind": found.kind,
        "code": found.code,
        "parameters": found.parameters,
        "execution_config": found.execution_config,
    }
    if not _is(document, util.digest):
        metrics.UTIL_CACHE.labels("store", "corrupt").inc()
        logger.error("util.code_corrupt", extra={"util_id": str(util.util_id)})
        raise CodeUnusable("what is stored for this version does not have its digest")
    return document


def _read(stored: bytes) -> Json | None:
    try:
        document: Any = orjson.loads(stored)
    except orjson.JSONDecodeError:
        return None
    names = {"kind", "code", "parameters", "execution_config"}
    return document if isinstance(document, dict) and document.keys() == names else None


def _is(document: Json, digest: str) -> bool:
    try:
        return code_digest(**document) == digest
    except (TypeError, ValueError):
        return False


def prepared_of(document: Json) -> Prepared:
    """Make a document ready to be executed; raises CodeUnusable."""
    schema = document["parameters"].get("output_schema") or None
    try:
        output_schema = compiled(schema) if schema else None
    except Invalid as exc:
        raise CodeUnusable("its output_schema cannot be used") from exc
    return Prepared(
        kind=document["kind"],
        code=document["code"],
        output_schema=output_schema,
        # A compiled schema holds far more than its text.
        size=len(document["code"]) + (20 * len(orjson.dumps(schema)) if schema else 0) + 1024,
    )
