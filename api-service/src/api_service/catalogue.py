"""Utils as the hot path needs them: which version a caller runs, within what, on which inputs.

Two levels before PostgreSQL. This process remembers heads, by caller and util, and what stands
under a digest; Redis has both for all processes. A change is told to every process, so heads are
dropped at once, and who did not hear of it drops them soon. Ceilings come from PostgreSQL alone.
Nothing here permits anything: `submit` decides under row-level security whether the very version
that was pinned may run.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from api_service.remembering import Remembering
from api_service.util_shelf import Head, Place, Shelf
from csb_core import metrics, util_executions
from csb_core.db import Pool, tenant_transaction
from csb_core.errors import CacheUnavailable
from csb_core.models import Caller, Json, UtilLimits
from csb_core.pins import limits_of
from csb_core.util_models import Ceilings, Runnable, UtilVersion
from csb_core.value_schema import ValueSchema, compiled

log = logging.getLogger(__name__)

#: How long a head is used: while this process hears of changes, and while it does not.
_HEARING: Final = timedelta(seconds=30)
_DEAF: Final = timedelta(seconds=2)
_CEILINGS: Final = timedelta(seconds=10)
_PROGRAM: Final = timedelta(minutes=10)


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

    def __init__(self, pool: Pool, shelf: Shelf) -> None:
        self._pool = pool
        self._shelf = shelf
        self._heads: Remembering[Place, Head] = Remembering(10_000)
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
        place = (caller.tenant_id, caller.key_id, util_id, version)
        head = self._head(place)
        program = self._program(head.digest) if head else None
        ceilings = self._ceilings.find(caller.tenant_id)
        if head is None or program is None or ceilings is None:
            return self._stored(place)
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
            self._shelf.say(util_id)
        except CacheUnavailable as exc:
            log.warning("cache.forget_failed", extra={"reason": str(exc)})
            with self._lock:
                self._unsaid.add(util_id)

    def say_again(self) -> int:
        """Tell what Redis did not hear; returns how many, raises CacheUnavailable."""
        with self._lock:
            due = set(self._unsaid)
        for util_id in due:
            self._shelf.say(util_id)
            with self._lock:
                self._unsaid.discard(util_id)
        return len(due)

    def forget(self, util_id: UUID | None) -> None:
        """Forget a util, or all of them, in this process."""
        with self._lock:
            self._changes += 1
            self._heads.drop(lambda place: util_id is None or place[2] == util_id)

    def _head(self, place: Place) -> Head | None:
        head = self._heads.find(place)
        metrics.UTIL_CACHE.labels("process", "hit" if head else "miss").inc()
        if head is not None:
            return head
        changes = self._changes
        head = self._shelf.head(place)
        if head is not None:
            self._remember(place, head, changes)
        return head

    def _program(self, digest: str) -> Program | None:
        program = self._programs.find(digest)
        metrics.UTIL_CACHE.labels("process", "hit" if program else "miss").inc()
        if program is not None:
            return program
        content = self._shelf.content(digest)
        if content is None:
            return None
        program = _program_of(content)
        self._programs.keep(digest, program, _PROGRAM)
        return program

    def _stored(self, place: Place) -> Entry | Runnable | None:
        tenant_id, key_id, util_id, version = place
        changes, generation = self._changes, self._shelf.generation(util_id)
        with tenant_transaction(self._pool, tenant_id, key_id=key_id) as conn:
            runnable = util_executions.resolve(conn, util_id, version)
        metrics.UTIL_CACHE.labels("store", "hit" if runnable else "miss").inc()
        if runnable is None or runnable.version is None or runnable.util.status != "active":
            return runnable

        entry = _entry_of(runnable, runnable.version)
        self._remember(place, entry.head, changes)
        self._programs.keep(entry.head.digest, entry.program, _PROGRAM)
        self._ceilings.keep(tenant_id, entry.ceilings, _CEILINGS)
        if generation is not None:
            content = _content(runnable, runnable.version)
            self._shelf.fill(place, entry.head, content, generation=generation)
        return entry

    def _remember(self, place: Place, head: Head, changes: int) -> None:
        """Keep a head, unless something has changed since it was read: it may be the old one."""
        with self._lock:
            if changes == self._changes:
                self._heads.keep(place, head, _HEARING if self.hears else _DEAF)


def _entry_of(runnable: Runnable, version: UtilVersion) -> Entry:
    return Entry(
        head=Head(number=version.version, digest=version.digest, access=runnable.util.access),
        program=_program_of(_content(runnable, version)),
        ceilings=runnable.ceilings,
    )


def _content(runnable: Runnable, version: UtilVersion) -> Json:
    """Return what a digest is made of."""
    return {
        "kind": runnable.util.kind,
        "code": version.code,
        "parameters": version.parameters,
        "execution_config": version.execution_config,
    }


def _program_of(content: Json) -> Program:
    schema = content["parameters"].get("input_schema")
    return Program(
        config=limits_of(content["execution_config"]),
        input_schema=compiled(schema) if schema else None,
    )
