"""Cache-aside status: read, fill, forget, so that no reader ever sees a status go back.

The value is {"tenant_id", "version", "document"}; the document is the API's answer, byte for byte,
and a JSON object.
A floor per request keeps the lowest version that may still be filled in. It exists before the
database is read, and every answer from the database raises it first, so a slow reader cannot bring
back what was overtaken: its fill finds a higher floor and is refused. A lease for the filler alone
would not do: a reader that was denied it could answer with the new status before the holder fills
in the old one.

Redis may lose a floor at any time, by its age, a restart or FLUSHALL. So each floor has an epoch, a
name of its own that no later one shares, and only who saw it before reading the database may fill.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from secrets import token_hex
from typing import Any, Final, cast
from uuid import UUID

import redis

from csb_core import keys, redis_faults
from csb_core.errors import CacheUnavailable
from csb_core.states import FINAL, Status

#: Longer than any read of the database may take (statement timeout of the API's role: 10 s), so
#: that a fill is seldom in vain.
FLOOR_TTL: Final = timedelta(minutes=2)
OPEN_TTL: Final = timedelta(seconds=5)
FINAL_TTL: Final = timedelta(minutes=5)
LARGEST: Final = 16_384
#: Redis serves nobody else while a script runs.
MOST_AT_ONCE: Final = 100

# A floor is "<epoch>:<lowest version>".

# KEYS 1 -> floor; ARGV 1 -> epoch for a new floor, 2 -> its ttl (s)
# Returns the floor's epoch.
PREPARE: Final = """
local epoch = string.match(redis.call('GET', KEYS[1]) or '', '^(%x+):%d+$')
if epoch then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  return epoch
end
redis.call('SET', KEYS[1], ARGV[1] .. ':0', 'EX', ARGV[2])
return ARGV[1]
"""

# KEYS 1 -> value, 2 -> floor
# ARGV 1 -> version, 2 -> value ('': not to be cached), 3 -> its ttl, 4 -> floor's ttl (s),
#      5 -> epoch met by `prepare`, 6 -> epoch for a new floor
# Raises the floor to what will be answered. Returns 'filled', 'gone' (answer, nothing is cached) or
# 'stale' (read again).
FILL: Final = """
local epoch, lowest = string.match(redis.call('GET', KEYS[2]) or '', '^(%x+):(%d+)$')
if epoch and tonumber(ARGV[1]) < tonumber(lowest) then return 'stale' end
redis.call('SET', KEYS[2], (epoch or ARGV[6]) .. ':' .. ARGV[1], 'EX', ARGV[4])
if epoch == ARGV[5] and ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
  return 'filled'
end
redis.call('DEL', KEYS[1])
return 'gone'
"""

# KEYS 2i-1 -> value, 2i -> floor; ARGV 1 -> floors' ttl (s), 2i -> version, 2i+1 -> channel
# Deletes each value, raises each floor, wakes whoever waits for the move. Where there is no floor
# nobody can fill what was read before.
FORGET: Final = """
for i = 1, #KEYS / 2 do
  local version = ARGV[2 * i]
  redis.call('DEL', KEYS[2 * i - 1])
  local epoch, lowest = string.match(redis.call('GET', KEYS[2 * i]) or '', '^(%x+):(%d+)$')
  if epoch and tonumber(lowest) < tonumber(version) then
    redis.call('SET', KEYS[2 * i], epoch .. ':' .. version, 'EX', ARGV[1])
  end
  redis.call('PUBLISH', ARGV[2 * i + 1], version)
end
"""


class Filled(Enum):
    """What became of a fill."""

    FILLED = "filled"
    #: Answer from the database; nothing is cached: too large, no room, or another floor by now.
    GONE = "gone"
    #: The row has moved since it was read: read it again.
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Hit:
    """A cached status: the version, and the document as the API sends it."""

    version: int
    document: bytes


@dataclass(slots=True)
class StatusCache:
    """The status keys in Redis."""

    redis: redis.Redis
    budget_bytes: int = 268_435_456
    _prepare: Any = field(init=False)
    _fill: Any = field(init=False)
    _forget: Any = field(init=False)
    _room: bool = field(default=True, init=False)
    _looked: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._prepare = self.redis.register_script(PREPARE)
        self._fill = self.redis.register_script(FILL)
        self._forget = self.redis.register_script(FORGET)

    def read(self, tenant_id: UUID, correlation_id: UUID) -> Hit | None:
        """The cached status, if it is there and this tenant's; raises CacheUnavailable."""
        with _translated():
            value = cast("bytes | None", self.redis.get(keys.status(correlation_id)))
        return parse(value, tenant_id) if value is not None else None

    def read_many(self, wanted: Sequence[tuple[UUID, UUID]]) -> list[Hit | None]:
        """What `read` gives for each (tenant, request), in one round trip; CacheUnavailable."""
        with _translated():
            values = cast("Any", self.redis.mget([keys.status(request) for _, request in wanted]))
        return [
            parse(value, tenant_id) if value is not None else None
            for (tenant_id, _), value in zip(wanted, values, strict=True)
        ]

    def prepare(self, correlation_id: UUID) -> bytes:
        """Make sure of a floor, after a miss and *before* the database is read; `fill` needs it.

        Raises CacheUnavailable.
        """
        with _translated():
            epoch = self._prepare(
                keys=[keys.floor(correlation_id)],
                args=[token_hex(8), int(FLOOR_TTL.total_seconds())],
            )
        return cast("bytes", epoch)

    def fill(
        self,
        tenant_id: UUID,
        correlation_id: UUID,
        *,
        floor: bytes,
        version: int,
        status: Status,
        document: bytes,
    ) -> Filled:
        """Cache what was read above `floor`, unless it was overtaken; raises CacheUnavailable.

        To be called before answering, whatever the document's size: it keeps older ones out.
        """
        ttl = (FINAL_TTL if status in FINAL else OPEN_TTL).total_seconds()
        with _translated():
            fits = len(document) <= LARGEST and self.has_room()
            answer = self._fill(
                keys=[keys.status(correlation_id), keys.floor(correlation_id)],
                args=[
                    version,
                    compose(tenant_id, version, document) if fits else b"",
                    max(1, round(ttl * random.uniform(0.8, 1.0))),  # noqa: S311
                    int(FLOOR_TTL.total_seconds()),
                    floor,
                    token_hex(8),
                ],
            )
        return Filled(answer.decode())

    def forget(self, moved: Sequence[tuple[UUID, int]]) -> None:
        """Drop these requests' statuses and let nothing below these versions come back.

        Raises CacheUnavailable; the caller tries again until it holds.
        """
        for start in range(0, len(moved), MOST_AT_ONCE):
            names: list[str] = []
            args: list[str | int] = [int(FLOOR_TTL.total_seconds())]
            for correlation_id, version in moved[start : start + MOST_AT_ONCE]:
                text = str(correlation_id)
                names += (keys.status(text), keys.floor(text))
                args += (version, keys.moved(text))
            with _translated():
                self._forget(keys=names, args=args)

    def has_room(self) -> bool:
        """Redis must not evict (it holds the queues), so the cache watches its memory itself."""
        if time.monotonic() - self._looked > 5:
            info = self.redis.info("memory")
            self._room = info["used_memory"] < self.budget_bytes
            self._looked = time.monotonic()
        return self._room


def compose(tenant_id: UUID, version: int, document: bytes) -> bytes:
    """The value as it stands in Redis."""
    return b'{"tenant_id":"%s","version":%d,"document":%s}' % (
        str(tenant_id).encode(),
        version,
        document,
    )


def parse(value: bytes, tenant_id: UUID) -> Hit | None:
    """Take a value apart without parsing the document; None when it is another tenant's."""
    head = b'{"tenant_id":"%s","version":' % str(tenant_id).encode()
    if not value.startswith(head):
        return None
    version, separator, document = value[len(head) :].partition(b',"document":')
    is_whole = separator and document.endswith(b"}}") and version.isdigit() and len(version) < 11
    return Hit(int(version), document[:-1]) if is_whole else None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as exc:
        raise CacheUnavailable(redis_faults.told(exc)) from exc
