"""What Redis has of utils for all processes of the API: heads by caller, contents by digest.

A head is kept with the generation of its util, which each change raises: one of another generation
is void. A content is digested again, and what is not what its name says is not used.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import orjson
import redis

from api_service.circuit import Circuit
from csb_core import keys, metrics
from csb_core.cache import StatusCache
from csb_core.claimed_utils import code_digest
from csb_core.errors import CacheUnavailable
from csb_core.models import Json
from csb_core.util_models import Access

log = logging.getLogger(__name__)

_HEAD: Final = timedelta(seconds=30)
_CONTENT: Final = timedelta(hours=1)
#: Outlives every head that was kept under it.
_GENERATION: Final = timedelta(hours=1)

#: A caller, a util, and the version that it names: tenant, key, util, version.
Place = tuple[UUID, str, UUID, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Which version a caller runs now, and by what right."""

    number: int
    digest: str
    access: Access


class Shelf:
    """Reads and fills; while Redis is away there is nothing on it."""

    def __init__(self, client: redis.Redis, cache: StatusCache, circuit: Circuit) -> None:
        self._redis = client
        self._cache = cache
        self._circuit = circuit

    def head(self, place: Place) -> Head | None:
        """Return the head that is kept for a caller, if it is of the present generation."""
        found = self._ask(keys.util_head(*place), keys.util_generation(place[2]))
        head = _head_of(*found) if found else None
        if found:
            metrics.UTIL_CACHE.labels("redis", "hit" if head else "miss").inc()
        return head

    def content(self, digest: str) -> Json | None:
        """Return what is kept under a digest, if that is really its digest."""
        found = self._ask(keys.util(digest))
        content = _content_of(found[0], digest) if found else None
        if found:
            metrics.UTIL_CACHE.labels("redis", "hit" if content else "miss").inc()
        return content

    def generation(self, util_id: UUID) -> int | None:
        """Return a util's generation, to be read before the util itself; None without Redis."""
        found = self._ask(keys.util_generation(util_id))
        return _number(found[0]) if found else None

    def fill(self, place: Place, head: Head, content: Json, *, generation: int) -> None:
        """Keep what was read after the generation was."""
        value = {
            "generation": generation,
            "number": head.number,
            "digest": head.digest,
            "access": head.access,
        }
        try:
            if self._cache.has_room():
                with self._redis.pipeline(transaction=False) as pipe:
                    pipe.set(keys.util_head(*place), orjson.dumps(value), ex=_HEAD)
                    pipe.set(keys.util(head.digest), orjson.dumps(content), ex=_CONTENT)
                    pipe.execute()
        except (redis.RedisError, OSError) as exc:
            self._fell_silent(exc)

    def say(self, util_id: UUID) -> None:
        """Void every head of a util, here and in all processes; raises CacheUnavailable."""
        try:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.incr(keys.util_generation(util_id))
                pipe.expire(keys.util_generation(util_id), _GENERATION)
                pipe.publish(keys.utils_changed(), str(util_id))
                pipe.execute()
        except (redis.RedisError, OSError) as exc:
            self._circuit.trip()
            raise CacheUnavailable("Redis did not hear of a changed util") from exc

    def _ask(self, *names: str) -> Sequence[bytes | None] | None:
        if self._circuit.is_open:
            metrics.UTIL_CACHE.labels("redis", "unavailable").inc()
            return None
        try:
            found: Any = self._redis.mget(names)
        except (redis.RedisError, OSError) as exc:
            self._fell_silent(exc)
            return None
        values: Sequence[bytes | None] = found
        return values

    def _fell_silent(self, exc: Exception) -> None:
        self._circuit.trip()
        metrics.UTIL_CACHE.labels("redis", "unavailable").inc()
        log.warning("cache.unavailable", extra={"reason": type(exc).__name__})


def _head_of(value: bytes | None, generation: bytes | None) -> Head | None:
    if value is None:
        return None
    try:
        fields = orjson.loads(value)
        if fields["generation"] != _number(generation):
            return None
        return Head(
            number=int(fields["number"]), digest=str(fields["digest"]), access=fields["access"]
        )
    except (ValueError, KeyError, TypeError):
        metrics.UTIL_CACHE.labels("redis", "corrupt").inc()
        return None


def _content_of(value: bytes | None, digest: str) -> Json | None:
    if value is None:
        return None
    try:
        content: Json = orjson.loads(value)
        is_it = code_digest(**content) == digest
    except (ValueError, TypeError):
        is_it = False
    if is_it:
        return content
    metrics.UTIL_CACHE.labels("redis", "corrupt").inc()
    log.error("security.util_cache_forged", extra={"digest": digest})
    return None


def _number(generation: bytes | None) -> int:
    return int(generation) if generation and generation.isdigit() else 0
