"""Every order in which readers, moves and Redis's own losses can follow each other, tried out.

The world is one request: its version in the database, its two keys in Redis, readers that each
take the steps of the API's reader (look, prepare, read the database, fill, answer), workers that
commit moves and tell of them later, in any order or never, and a Redis that may lose a key at any
moment. Each step on Redis is done by the real method of `StatusCache` on a real Redis; what it did
is remembered by what it met, so that the search need not ask twice.

The promise: what a reader shows is never older than what anybody had been shown when it began to
read, nor than any move that Redis had been told of by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

import redis

from csb_core import keys
from csb_core.cache import LARGEST, Filled, StatusCache
from csb_core.ids import new_id
from csb_core.states import Status

#: Epochs: of the floor that stands, of one that Redis lost, and of the next one. All lost ones are
#: alike, since none of them ever comes back.
PAST, PRESENT, NEXT = b"0", b"1", b"2"
#: The API's reader answers uncached after so many tries; two show the same.
MOST_TRIES = 2


#: How readers go about it; only the first one keeps the promise.
Habit = Literal["as the API", "prepares late", "answers first"]


@dataclass(frozen=True, slots=True, order=True)
class Reader:
    """One reader: how many answers it still gives, and how far it is with the present one."""

    left: int
    at: str = "idle"
    seen: int = 0  # the newest version that anybody had been shown, or told of, when it began
    floor: bytes = b""
    read: int = 0
    tries: int = 0


@dataclass(frozen=True, slots=True)
class World:
    """All there is; two equal worlds have the same future."""

    readers: tuple[Reader, ...]
    moves: int
    version: int = 1
    untold: frozenset[int] = frozenset()  # committed moves that Redis has not been told of
    value: bytes | None = None
    floor: bytes | None = None
    shown: int = 0
    told: int = 0


class Violation(Exception):
    """A reader was shown less than somebody before it; the path says how it came to that."""


@dataclass(slots=True, kw_only=True)
class Search:
    """The search, and the Redis that it asks."""

    redis: redis.Redis
    #: Versions whose documents are too large for the cache.
    large: frozenset[int] = frozenset()
    #: Whether Redis may lose keys: by time, by FLUSHALL, by a restart.
    loses: bool = True
    habit: Habit = "as the API"
    tenant: UUID = field(default_factory=new_id)
    request: UUID = field(default_factory=new_id)
    _cache: StatusCache = field(init=False)
    _done: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cache = StatusCache(self.redis)

    def run(self, *, readers: int, answers: int, moves: int) -> int:
        """Visit every world that can be reached; returns how many. Raises Violation."""
        first = World(readers=(Reader(left=answers),) * readers, moves=moves)
        came_from: dict[World, tuple[World, str]] = {first: (first, "")}
        open_ = deque([first])
        while open_:
            world = open_.popleft()
            for name, following in self._steps(world):
                if following in came_from:
                    continue
                came_from[following] = (world, name)
                if following.shown < 0:
                    raise Violation("\n".join(_path(following, came_from)))
                open_.append(following)
        return len(came_from)

    def _steps(self, world: World) -> Iterator[tuple[str, World]]:
        if world.moves:
            version = world.version + 1
            yield (
                f"commit {version}",
                replace(
                    world,
                    moves=world.moves - 1,
                    version=version,
                    untold=world.untold | {version},
                ),
            )
        for version in world.untold:
            yield f"forget {version}", self._forget(world, version)
        if self.loses and world.floor is not None:
            yield "floor expires", _canonical(replace(world, floor=None), ())
        if self.loses and world.value is not None:
            yield "value expires", replace(world, value=None)
        for n, reader in enumerate(world.readers):
            if n and reader == world.readers[n - 1]:
                continue  # the same reader by another name
            for name, following in self._read(world, reader):
                others = world.readers[:n] + world.readers[n + 1 :]
                yield f"reader {n}: {name}", _canonical(following, others)

    # -- the reader, step by step; each yields the world with the reader alone in it

    def _read(self, world: World, reader: Reader) -> Iterator[tuple[str, World]]:
        match reader.at:
            case "idle" if reader.left:
                hit, after = self._ask("look", world)
                begun = replace(reader, seen=max(world.shown, world.told), tries=0)
                if hit is not None:
                    yield f"shows {hit} (hit)", _shows(after, begun, hit)
                else:
                    yield "misses", _with(after, replace(begun, at="missed"))
            case "missed" if self.habit == "prepares late":
                yield self._reads(world, reader, then="prepares")
            case "missed" | "prepares":
                then = "fills" if reader.read else "reads"
                floor, after = self._ask("prepare", world)
                yield "prepares", _with(after, replace(reader, at=then, floor=floor))
            case "reads":
                yield self._reads(world, reader, then="fills")
            case "fills" if self.habit == "answers first":
                late = replace(reader, at="filling", left=reader.left - 1)
                shown = _shows(world, reader, reader.read)
                yield f"shows {reader.read}", _with(shown, late)
            case "filling":
                _, after = self._ask("fill", world, reader.floor, reader.read)
                yield "fills", _with(after, Reader(left=reader.left))
            case "fills":
                yield from self._fill(world, reader)

    @staticmethod
    def _reads(world: World, reader: Reader, *, then: str) -> tuple[str, World]:
        return (
            f"reads {world.version}",
            _with(world, replace(reader, at=then, read=world.version)),
        )

    def _fill(self, world: World, reader: Reader) -> Iterator[tuple[str, World]]:
        filled, after = self._ask("fill", world, reader.floor, reader.read)
        if filled is Filled.STALE and reader.tries + 1 < MOST_TRIES:
            again = replace(reader, at="missed", tries=reader.tries + 1, floor=b"", read=0)
            yield "is too late", _with(after, again)
        else:
            yield f"shows {reader.read} ({filled})", _shows(after, reader, reader.read)

    def _forget(self, world: World, version: int) -> World:
        _, after = self._ask("forget", world, version)
        return replace(
            _canonical(after, ()),
            untold=world.untold - {version},
            told=max(world.told, version),
        )

    # -- Redis

    def _ask(self, what: str, world: World, *args: Any) -> tuple[Any, World]:
        """Do it on the real Redis, in the state of this world; returns the answer and the after."""
        met = (what, world.value, world.floor, *args)
        if met not in self._done:
            value, floor = keys.status(self.request), keys.floor(self.request)
            self.redis.delete(value, floor)
            for name, content in ((value, world.value), (floor, world.floor)):
                if content is not None:
                    self.redis.set(name, content)
            answer = getattr(self, f"_do_{what}")(*args)
            self._done[met] = answer, self.redis.get(value), self.redis.get(floor)
        answer, value_after, floor_after = self._done[met]
        return answer, replace(world, value=value_after, floor=floor_after)

    def _do_look(self) -> int | None:
        hit = self._cache.read(self.tenant, self.request)
        return hit.version if hit else None

    def _do_prepare(self) -> bytes:
        return self._cache.prepare(self.request)

    def _do_fill(self, floor: bytes, version: int) -> Filled:
        return self._cache.fill(
            self.tenant,
            self.request,
            floor=floor,
            version=version,
            status=Status.PENDING,
            document=b"{%s}" % (b"x" * (LARGEST if version in self.large else 1)),
        )

    def _do_forget(self, version: int) -> None:
        self._cache.forget([(self.request, version)])


def _with(world: World, reader: Reader) -> World:
    return replace(world, readers=(reader,))


def _shows(world: World, reader: Reader, version: int) -> World:
    shown = -1 if version < reader.seen else max(world.shown, version)
    return replace(_with(world, Reader(left=reader.left - 1)), shown=shown)


def _canonical(world: World, others: tuple[Reader, ...]) -> World:
    """The same world by the names that all of its kind have."""
    epoch = world.floor.partition(b":")[0] if world.floor is not None else None
    readers = [
        replace(one, floor=PRESENT if one.floor == epoch else PAST) if one.floor else one
        for one in (*world.readers, *others)
    ]
    floor = world.floor and world.floor.replace(b"%s:" % epoch, b"%s:" % PRESENT)
    return replace(world, readers=tuple(sorted(readers)), floor=floor)


def _path(world: World, came_from: dict[World, tuple[World, str]]) -> list[str]:
    steps: list[str] = []
    while came_from[world][0] != world:
        world, name = came_from[world]
        steps.append(name)
    return steps[::-1]
