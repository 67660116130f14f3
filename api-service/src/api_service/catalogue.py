"""Utils as the hot path needs them: which version a caller runs, within what, on which inputs.

Two levels before PostgreSQL. This process remembers heads, by caller and util, and what stands
under a digest; Redis has both for all processes. A change raises the util's generation in Redis and
is told to every process, so heads are dropped at once, and a head of another generation is void;
what did not hear of it drops them soon. What stands under a digest never changes, and is digested
again when it comes from Redis. Ceilings come from PostgreSQL alone. Nothing here permits anything:
`submit` decides under row-level security whether the very version that was pinned may run.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import orjson
import redis

from api_service.circuit import Circuit
from api_service.remembering import Remembering
from csb_core import keys, metrics, util_executions
from csb_core.cache import StatusCache
from csb_core.claimed_utils import code_digest
from csb_core.db import Pool, tenant_transaction
from csb_core.errors import CacheUnavailable
from csb_core.models import Caller, Json, UtilLimits
from csb_core.pins import limits_of
from csb_core.util_models import Access, Ceilings, Runnable, UtilVersion
from csb_core.value_schema import ValueSchema, compiled

log = logging.getLogger(__name__)

#: How long a head is used: while this process hears of changes, and while it does not.
_HEARING: Final = timedelta(seconds=30)
_DEAF: Final = timedelta(seconds=2)
_IN_REDIS: Final = timedelta(seconds=30)
_CODE_IN_REDIS: Final = timedelta(hours=1)
#: Outlives every head that was kept under it.
_GENERATION: Final = timedelta(hours=1)
_CEILINGS: Final = timedelta(seconds=10)
_PROGRAM: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Which version a caller runs now, and by what right."""

    number: int
    digest: str
    access: Access


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What belongs to a digest and matters before a run: its limits, and what it takes."""

    config: UtilLimits
    input_schema: ValueSchema | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All that a pin is made of."""

    head: Head
    program: Program
    ceilings: Ceilings


class Catalogue:
    """Looks in this process, in Redis, in PostgreSQL, in this order."""

    def __init__(
        self, pool: Pool, client: redis.Redis, cache: StatusCache, circuit: Circuit
    ) -> None:
        self._pool = pool
        self._redis = client
        self._cache = cache
        self._circuit = circuit
        self._heads: Remembering[tuple[UUID, str, UUID, int | None], Head] = Remembering(10_000)
        self._programs: Remembering[str, Program] = Remembering(128)
        self._ceilings: Remembering[UUID, Ceilings] = Remembering(10_000)
        self._lock = threading.Lock()
        self._changes = 0
        self._unsaid: set[UUID] = set()
        self.hears = False

    def find(self, caller: Caller, util_id: UUID, version: int | None) -> Entry | Runnable | None:
        """Return what this caller would run; None when it sees no such util.

        What cannot run as things are, is given as it stands in PostgreSQL, and never remembered.
        Raises StoreUnavailable.
        """
        head = self._head(caller, util_id, version)
        program = self._program(head.digest) if head else None
        ceilings = self._ceilings.find(caller.tenant_id)
        if head is None or program is None or ceilings is None:
            return self._stored(caller, util_id, version)
        return Entry(head=head, program=program, ceilings=ceilings)

    def entry_of(self, runnable: Runnable) -> Entry | Runnable:
        """Return what is read of a util as an entry, active or not; itself without a version."""
        if runnable.version is None:
            return runnable
        return _entry_of(runnable, runnable.version)

    def tell(self, util_id: UUID) -> None:
        """Make everybody forget a util that has changed; never raises for want of Redis."""
        self.forget(util_id)
        try:
            self._say(util_id)
        except (redis.RedisError, OSError) as exc:
            self._circuit.trip()
            log.warning("cache.forget_failed", extra={"reason": type(exc).__name__})
            with self._lock:
                self._unsaid.add(util_id)

    def say_again(self) -> int:
        """Tell what Redis did not hear; returns how many, raises CacheUnavailable."""
        with self._lock:
            due = set(self._unsaid)
        for util_id in due:
            try:
                self._say(util_id)
            except (redis.RedisError, OSError) as exc:
                raise CacheUnavailable("Redis did not hear of changed utils") from exc
            with self._lock:
                self._unsaid.discard(util_id)
        return len(due)

    def forget(self, util_id: UUID | None) -> None:
        """Forget a util, or all of them, in this process."""
        with self._lock:
            self._changes += 1
        self._heads.drop(lambda key: util_id is None or key[2] == util_id)

    def _say(self, util_id: UUID) -> None:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.incr(keys.util_generation(util_id))
            pipe.expire(keys.util_generation(util_id), _GENERATION)
            pipe.publish(keys.utils_changed(), str(util_id))
            pipe.execute()

    def _head(self, caller: Caller, util_id: UUID, version: int | None) -> Head | None:
        place = (caller.tenant_id, caller.key_id, util_id, version)
        head = self._heads.find(place)
        metrics.UTIL_CACHE.labels("process", "hit" if head else "miss").inc()
        if head is not None:
            return head
        changes = self._changes
        found = self._ask_redis(keys.util_head(*place), keys.util_generation(util_id))
        head = _head_of(*found) if found else None
        if head is not None:
            self._remember(place, head, changes)
        return head

    def _program(self, digest: str) -> Program | None:
        program = self._programs.find(digest)
        metrics.UTIL_CACHE.labels("process", "hit" if program else "miss").inc()
        if program is not None:
            return program
        found = self._ask_redis(keys.util(digest))
        content = _content_of(found[0], digest) if found else None
        if content is None:
            return None
        program = _program_of(content)
        self._programs.keep(digest, program, _PROGRAM)
        return program

    def _stored(
        self, caller: Caller, util_id: UUID, version: int | None
    ) -> Entry | Runnable | None:
        changes = self._changes
        generation = self._ask_redis(keys.util_generation(util_id))
        with tenant_transaction(self._pool, caller.tenant_id, key_id=caller.key_id) as conn:
            runnable = util_executions.resolve(conn, util_id, version)
        metrics.UTIL_CACHE.labels("store", "hit" if runnable else "miss").inc()
        if runnable is None or runnable.version is None or runnable.util.status != "active":
            return runnable
        entry = _entry_of(runnable, runnable.version)
        place = (caller.tenant_id, caller.key_id, util_id, version)
        self._remember(place, entry.head, changes)
        self._programs.keep(entry.head.digest, entry.program, _PROGRAM)
        self._ceilings.keep(caller.tenant_id, entry.ceilings, _CEILINGS)
        if generation is not None:
            self._fill(
                keys.util_head(*place),
                entry.head,
                generation[0],
                _content(runnable, runnable.version),
            )
        return entry

    def _remember(
        self, place: tuple[UUID, str, UUID, int | None], head: Head, changes: int
    ) -> None:
        """Keep a head, unless something has changed since it was read: it may be the old one."""
        with self._lock:
            if changes == self._changes:
                self._heads.keep(place, head, _HEARING if self.hears else _DEAF)

    def _ask_redis(self, *names: str) -> list[bytes | None] | None:
        if self._circuit.is_open:
            metrics.UTIL_CACHE.labels("redis", "unavailable").inc()
            return None
        try:
            found: Any = self._redis.mget(names)
        except (redis.RedisError, OSError) as exc:
            self._circuit.trip()
            metrics.UTIL_CACHE.labels("redis", "unavailable").inc()
            log.warning("cache.read_failed", extra={"reason": type(exc).__name__})
            return None
        if len(names) > 1 or not names[0].startswith("cache:util-gen"):
            metrics.UTIL_CACHE.labels("redis", "hit" if found[0] else "miss").inc()
        values: list[bytes | None] = found
        return values

    def _fill(self, name: str, head: Head, generation: bytes | None, content: Json) -> None:
        value = {
            "generation": int(generation or 0),
            "number": head.number,
            "digest": head.digest,
            "access": head.access,
        }
        try:
            if self._cache.has_room():
                with self._redis.pipeline(transaction=False) as pipe:
                    pipe.set(name, orjson.dumps(value), ex=_IN_REDIS)
                    pipe.set(keys.util(head.digest), orjson.dumps(content), ex=_CODE_IN_REDIS)
                    pipe.execute()
        except (redis.RedisError, OSError) as exc:
            self._circuit.trip()
            log.warning("cache.fill_failed", extra={"reason": type(exc).__name__})


def _head_of(value: bytes | None, generation: bytes | None) -> Head | None:
    """Return a head as Redis has it; None when there is none, or it is of another generation."""
    if value is None:
        return None
    try:
        fields = orjson.loads(value)
        if fields["generation"] != int(generation or 0):
            return None
        return Head(
            number=int(fields["number"]), digest=str(fields["digest"]), access=fields["access"]
        )
    except (ValueError, KeyError, TypeError):
        metrics.UTIL_CACHE.labels("redis", "corrupt").inc()
        return None


def _entry_of(runnable: Runnable, version: UtilVersion) -> Entry:
    return Entry(
        head=Head(number=version.version, digest=version.digest, access=runnable.util.access),
        program=_program_of(_content(runnable, version)),
        ceilings=runnable.ceilings,
    )


def _content(runnable: Runnable, version: UtilVersion) -> Json:
    return {
        "kind": runnable.util.kind,
        "code": version.code,
        "parameters": version.parameters,
        "execution_config": version.execution_config,
    }


def _content_of(value: bytes | None, digest: str) -> Json | None:
    """Return what Redis has under a digest, if that is really its digest."""
    if value is None:
        return None
    try:
        content: Json = orjson.loads(value)
        if code_digest(**content) == digest:
            return content
    except (ValueError, TypeError):
        pass
    metrics.UTIL_CACHE.labels("redis", "corrupt").inc()
    log.error("security.util_cache_forged", extra={"digest": digest})
    return None


def _program_of(content: Json) -> Program:
    schema = content["parameters"].get("input_schema")
    return Program(
        config=limits_of(content["execution_config"]),
        input_schema=compiled(schema) if schema else None,
    )
