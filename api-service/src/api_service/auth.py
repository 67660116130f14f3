"""Who calls: a token from the headers, found by its digest; and what they may do."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from api_service import key_store
from api_service.grouping import Grouping, NotBegun, NotFinished
from api_service.key_store import Known
from csb_core import keys, metrics
from csb_core.db import Pool, connection
from csb_core.errors import BridgeError, StoreUnavailable
from csb_core.models import Caller

#: A found key is asked for again after this, and used no longer than that: revocation is
#: effective within _TRUSTED, well inside the five seconds that we promise.
_FRESH: Final = 1.5
_TRUSTED: Final = 3.0
_UNKNOWN_FOR: Final = 1.0
_MOST_REMEMBERED: Final = 10_000
_MOST_AT_ONCE: Final = 100

_BEARER: Final = "bearer "


class Scope(StrEnum):
    """What a route asks of a key; a route without one cannot be registered."""

    #: Anybody, without a key: the probes and nothing else.
    PUBLIC = "public"
    #: Any valid key.
    ANY_KEY = "any"
    READ = "requests:read"
    WRITE = "requests:write"
    OPERATE = "requests:operate"
    UTILS_READ = "utils:read"
    UTILS_WRITE = "utils:write"
    UTILS_EXECUTE = "utils:execute"
    ADMIN = "admin"


class Unauthenticated(BridgeError):
    """No valid key came with the call; never says which part of it was wrong."""

    code: ClassVar[str] = "unauthenticated"


class Forbidden(BridgeError):
    """The key is valid and lacks the scope that the route asks for."""

    code: ClassVar[str] = "forbidden"


@dataclass(slots=True)
class _Remembered:
    known: Known | None
    refresh_at: float
    until: float

    @classmethod
    def of(cls, known: Known | None, asked: float) -> _Remembered:
        """What was found, or not found, when it was `asked` for."""
        if known is None:
            return cls(known=None, refresh_at=asked + _UNKNOWN_FOR, until=asked + _UNKNOWN_FOR)
        return cls(known=known, refresh_at=asked + _FRESH, until=asked + _TRUSTED)


class KeyRing:
    """Keys by digest, remembered for a moment so that a call seldom costs a round trip."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._used: set[str] = set()
        #: However many ask, also with keys that are none, PostgreSQL is asked once at a time.
        self._lookups: Grouping[bytes, _Remembered] = Grouping(
            self._look_up, most=_MOST_AT_ONCE, abreast=1, patience=timedelta(seconds=5)
        )

    def find(self, token: str) -> Known | None:
        """Return the key of this token; None for one that may not be used.

        Raises StoreUnavailable when it is not remembered and PostgreSQL is away.
        """
        digest = keys.token_digest(token)
        if keys.key_id_of(token) is None:
            return None
        now = time.monotonic()
        entry = self._remembered.get(digest)
        if entry is None or now >= entry.until:
            entry = self._ask(digest)
        elif now >= entry.refresh_at:
            entry.refresh_at = entry.until  # one caller asks; the others go on with what is known
            with suppress(StoreUnavailable):  # and so does this one, until the entry is too old
                entry = self._ask(digest)
        known = entry.known
        if known is None or _is_over(known.caller):
            return None
        self._used.add(known.caller.key_id)
        return known

    def note_use(self) -> int:
        """Write down which keys were used since the last pass; returns how many."""
        used, self._used = self._used, set()
        if not used:
            return 0
        try:
            with connection(self._pool) as conn:
                key_store.touch(conn, used)
        except StoreUnavailable:
            self._used |= used
            raise
        return len(used)

    def _ask(self, digest: bytes) -> _Remembered:
        try:
            return self._lookups.ask([digest])[0]
        except (NotBegun, NotFinished) as exc:
            raise StoreUnavailable("the database is too busy") from exc

    def _look_up(self, digests: Sequence[bytes]) -> list[_Remembered]:
        asked = time.monotonic()
        with connection(self._pool) as conn:
            found = key_store.find(conn, list(dict.fromkeys(digests)))
        entries = [_Remembered.of(found.get(digest), asked) for digest in digests]
        with self._lock:
            for digest, entry in zip(digests, entries, strict=True):
                self._remembered[digest] = entry
                self._remembered.move_to_end(digest)
            while len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return entries


def authenticate(ring: KeyRing, environ: Mapping[str, Any]) -> Known:
    """Return who calls; raises Unauthenticated, StoreUnavailable."""
    token = token_of(environ)
    known = ring.find(token)
    if known is None:
        metrics.AUTH_FAILURES.labels("unknown").inc()
        raise Unauthenticated("the key is not known, or is not valid any more")
    return known


def authorise(caller: Caller, scope: Scope) -> None:
    """Return if the caller may; raises Forbidden. Scopes are granted, never assumed."""
    if scope is Scope.ANY_KEY or scope in caller.scopes or Scope.ADMIN in caller.scopes:
        return
    metrics.AUTH_FAILURES.labels("scope").inc()
    raise Forbidden(f"this key lacks the scope {scope.value}")


def token_of(environ: Mapping[str, Any]) -> str:
    """Return the token of X-Auth-Token or of Authorization: Bearer; raises Unauthenticated."""
    token = environ.get("HTTP_X_AUTH_TOKEN", "").strip()
    authorization = environ.get("HTTP_AUTHORIZATION", "").strip()
    if authorization:
        if not authorization.lower().startswith(_BEARER):
            metrics.AUTH_FAILURES.labels("malformed").inc()
            raise Unauthenticated("Authorization must be of the kind Bearer")
        bearer = authorization[len(_BEARER) :].strip()
        if token and token != bearer:
            metrics.AUTH_FAILURES.labels("malformed").inc()
            raise Unauthenticated("X-Auth-Token and Authorization name different keys; send one")
        token = bearer
    if not token:
        metrics.AUTH_FAILURES.labels("missing").inc()
        raise Unauthenticated("send a key as X-Auth-Token, or as Authorization: Bearer")
    return str(token)


def _is_over(caller: Caller) -> bool:
    return caller.expires_at is not None and caller.expires_at <= datetime.now(UTC)
