"""A provider's messages: published in one list, dealt out by tenant; a doorbell, not the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from csb_core import dealing, keys, redis_faults
from csb_core.errors import MessageUnreadable, QueueUnavailable
from csb_core.models import Message

Redis = redis.Redis

#: Runs of the script for one deal. A list that takes more is sorted by the deals that follow.
MOST_SORTS: Final = 100


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """What a worker was dealt, and whether messages are left that were not for it."""

    messages: list[bytes]
    left: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """A tenant's sorted messages; `oldest` is None when that one cannot be read."""

    tenant: str
    depth: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """All messages that stand: those that nobody has sorted yet, and each tenant's."""

    unsorted: int
    oldest_unsorted: datetime | None
    backlogs: Sequence[Backlog]

    @property
    def depth(self) -> int:
        """How many messages there are."""
        return self.unsorted + sum(backlog.depth for backlog in self.backlogs)

    @property
    def oldest(self) -> datetime | None:
        """When the oldest was published; None when there is none, or none to be read."""
        ends = (self.oldest_unsorted, *(backlog.oldest for backlog in self.backlogs))
        return min((at for at in ends if at is not None), default=None)


@dataclass(slots=True)
class Queue:
    """One provider's messages. Every method raises QueueUnavailable when Redis does not answer."""

    redis: Redis
    provider: str
    _list: str = field(init=False)
    _deal: Any = field(init=False)
    _give_back: Any = field(init=False)
    _standing: Any = field(init=False)

    def __post_init__(self) -> None:
        self._list = keys.queue(self.provider)
        self._deal = self.redis.register_script(dealing.DEAL)
        self._give_back = self.redis.register_script(dealing.GIVE_BACK)
        self._standing = self.redis.register_script(dealing.STANDING)

    def publish(self, messages: Sequence[bytes]) -> None:
        """Ring for these messages, first one first."""
        if messages:
            with _translated():
                self.redis.lpush(self._list, *messages)

    def wait(self, seconds: float, *, baton: bool = True) -> bytes | None:
        """The oldest message that nobody has sorted yet; None when it is time to ask for a deal.

        With the `baton` that is at once when others have left messages to be dealt. Who knows that
        none of these are for him waits without it.
        """
        batons = [keys.queue_baton(self.provider)] if baton else []
        with _translated():
            popped = cast("Any", self.redis.brpop([self._list, *batons], timeout=seconds))
        if popped is None or popped[0] != self._list.encode():
            return None
        return cast("bytes", popped[1])

    def deal(
        self,
        slots: int,
        *,
        portion: float = 1,
        held: Mapping[str, int] | None = None,
        pace: int | None = None,
        coming: Mapping[str, int] | None = None,
        popped: bytes | None = None,
    ) -> Dealt:
        """Up to `slots` messages, one a tenant in turn, without waiting.

        A tenant is passed over when it would then hold more than `portion` / (1 - `portion`) times
        the slots that stay free; `held` are those it holds already. So one tenant alone comes to
        `portion` of all slots, several to less each, and some stay free for the next. It is also
        passed over when `pace` of its messages are on their way to a lease; `coming` are those of
        `held` that are so already. None is no such bound. `popped` is what `wait` gave.
        """
        ratio = -1 if portion >= 1 else portion / (1 - portion)
        held, coming = held or {}, coming or {}
        holders = [
            part for tenant in held for part in (tenant, held[tenant], coming.get(tenant, 0))
        ]
        return self._run(slots, popped, [ratio, -1 if pace is None else pace, *holders])

    def sort(self) -> None:
        """Move all messages to their tenants' lists."""
        self._run(0, None, [-1, -1])

    def _run(self, slots: int, popped: bytes | None, bounds: list[Any]) -> Dealt:
        for _ in range(MOST_SORTS):
            with _translated():
                unsorted, tenants, *messages = self._deal(
                    keys=[
                        self._list,
                        keys.queue_round(self.provider),
                        keys.queue_baton(self.provider),
                    ],
                    args=[
                        keys.tenants_queues(self.provider),
                        dealing.MOST_SORTED,
                        dealing.MOST_BYTES,
                        popped or b"",
                        slots,
                        *bounds,
                    ],
                )
            popped = None
            if not unsorted:
                break
        return Dealt(messages=messages, left=bool(unsorted or tenants))

    def give_back(self, messages: Sequence[bytes]) -> None:
        """Put messages back to where they were, next in turn."""
        if messages:
            with _translated():
                self._give_back(
                    keys=[keys.queue_round(self.provider), keys.queue_baton(self.provider)],
                    args=[keys.tenants_queues(self.provider), *reversed(messages)],
                )

    def standing(self) -> Standing:
        """What stands, by tenant; its cost grows with the tenants that wait."""
        with _translated():
            unsorted, oldest, *rest = self._standing(
                keys=[self._list, keys.queue_round(self.provider)],
                args=[keys.tenants_queues(self.provider)],
            )
        return Standing(
            unsorted=unsorted,
            oldest_unsorted=_moment(oldest),
            backlogs=[
                Backlog(tenant=rest[i].decode(), depth=rest[i + 1], oldest=_moment(rest[i + 2]))
                for i in range(0, len(rest), 3)
            ],
        )

    def depth(self) -> int:
        """How many messages stand."""
        return self.standing().depth

    def oldest(self) -> datetime | None:
        """When the oldest message was published; None for none, or none to be read."""
        return self.standing().oldest

    def ping(self) -> None:
        """Return if Redis answers."""
        with _translated():
            self.redis.ping()


def _moment(text: bytes) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    return at if at.utcoffset() == timedelta() else None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as exc:
        raise QueueUnavailable(redis_faults.told(exc)) from exc
