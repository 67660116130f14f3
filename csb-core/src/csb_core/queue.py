"""The provider's list: published at its left, awaited at its right; a doorbell, not the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from csb_core import keys
from csb_core.errors import MessageUnreadable, QueueUnavailable
from csb_core.models import Message

Redis = redis.Redis


def connect(url: str, *, timeout: timedelta, connections: int = 64) -> Redis:
    """A client that gives up after `timeout`; it connects when it is first used.

    A blocking pop needs a client of its own whose timeout lies above the block: redis-py would
    otherwise end the wait itself and lose what Redis popped meanwhile.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout.total_seconds(),
        socket_connect_timeout=min(1.0, timeout.total_seconds()),
        socket_keepalive=True,
        health_check_interval=15,
        max_connections=connections,
        retry=Retry(NoBackoff(), 0),
    )


def encode(message: Message, digest: str) -> bytes:
    """The message as it stands in the list."""
    return orjson.dumps(
        {
            "v": 1,
            "correlation_id": message.correlation_id,
            "tenant_id": message.tenant_id,
            "attempt": message.attempt,
            "published_at": message.published_at.astimezone(UTC).isoformat(),
            "traceparent": message.traceparent,
            "digest": digest,
            "payload": message.payload,
        }
    )


def decode(raw: bytes) -> Message:
    """Read a message; raises MessageUnreadable for anything that `encode` did not make."""
    try:
        fields = orjson.loads(raw)
        if fields["v"] != 1 or not isinstance(fields["payload"], dict):
            raise MessageUnreadable("not a version that this worker knows")
        traceparent = fields.get("traceparent")
        published_at = datetime.fromisoformat(fields["published_at"])
        if published_at.utcoffset() != timedelta():
            raise MessageUnreadable("its time is not in UTC")
        return Message(
            correlation_id=UUID(fields["correlation_id"]),
            tenant_id=UUID(fields["tenant_id"]),
            attempt=int(fields["attempt"]),
            published_at=published_at,
            traceparent=traceparent if isinstance(traceparent, str) else None,
            payload=fields["payload"],
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as exc:
        raise MessageUnreadable(f"not a message ({type(exc).__name__})") from exc


@dataclass(frozen=True, slots=True)
class Queue:
    """One provider's list."""

    redis: Redis
    provider: str

    def publish(self, messages: Sequence[bytes]) -> None:
        """Ring for these messages, first one first; raises QueueUnavailable."""
        if messages:
            with _translated():
                self.redis.lpush(keys.queue(self.provider), *messages)

    def wait(self, seconds: float) -> bytes | None:
        """The oldest message, or None when none came in time; raises QueueUnavailable."""
        with _translated():
            popped = cast("Any", self.redis.brpop([keys.queue(self.provider)], timeout=seconds))
        return cast("bytes", popped[1]) if popped else None

    def take(self, most: int) -> list[bytes]:
        """Up to `most` further messages, without waiting; raises QueueUnavailable."""
        with _translated():
            return cast("list[bytes]", self.redis.rpop(keys.queue(self.provider), most) or [])

    def give_back(self, messages: Sequence[bytes]) -> None:
        """Put popped messages back to where they were, next in turn; raises QueueUnavailable."""
        if messages:
            with _translated():
                self.redis.rpush(keys.queue(self.provider), *reversed(messages))

    def depth(self) -> int:
        """How many messages stand in the list; raises QueueUnavailable."""
        with _translated():
            return self.redis.llen(keys.queue(self.provider))

    def oldest(self) -> datetime | None:
        """When the oldest message was published; None for an empty list or an unreadable tail."""
        with _translated():
            raw = cast("bytes | None", self.redis.lindex(keys.queue(self.provider), -1))
        try:
            return decode(raw).published_at if raw else None
        except MessageUnreadable:
            return None

    def ping(self) -> None:
        """Return if Redis answers; raises QueueUnavailable."""
        with _translated():
            self.redis.ping()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as exc:
        raise QueueUnavailable(f"Redis did not answer ({type(exc).__name__})") from exc
