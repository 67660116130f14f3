"""What a worker makes of messages: reads them, and explains those that named no work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, assert_never
from uuid import UUID

from csb_core import leases, metrics, rescues
from csb_core.contract import digest_of
from csb_core.db import Pool, connection
from csb_core.errors import MessageUnreadable, StoreRejected, StoreUnavailable
from csb_core.leases import LOSSES_BEFORE_ALONE, Standing
from csb_core.models import Json, Lease, Message
from csb_core.queue import decode, encode
from csb_core.rescues import SecurityEvent
from csb_core.states import Status

logger = logging.getLogger(__name__)

Reason = Literal["lonely", "message_unknown", "message_forged", "settled"]


LOG_EVENTS: Final[dict[SecurityEvent, str]] = {
    "message_unreadable": "security.message_unreadable",
    "message_unknown": "security.message_unknown",
    "message_forged": "security.message_forged",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ringing:
    """A readable message: the request it names, and the digest of the payload it carries."""

    raw: bytes
    correlation_id: UUID
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A message that no honest API wrote, and what is kept of it."""

    event: SecurityEvent
    detail: Json
    correlation_id: UUID | None = None


def read(popped: Sequence[bytes]) -> tuple[list[Ringing], list[tuple[bytes, str]]]:
    """Take messages apart: those that can be read, each once, and the others with why.

    Two that name one request and differ are both kept: one of them is forged.
    """
    ringing: dict[tuple[UUID, str], Ringing] = {}
    unreadable: list[tuple[bytes, str]] = []
    for raw in popped:
        try:
            message = decode(raw)
            digest = digest_of(message.payload)
        except (MessageUnreadable, ValueError, TypeError, RecursionError) as exc:
            unreadable.append((raw, str(exc)))
            continue
        ringing.setdefault(
            (message.correlation_id, digest),
            Ringing(raw=raw, correlation_id=message.correlation_id, digest=digest),
        )
    return list(ringing.values()), unreadable


def unserved(ringing: Sequence[Ringing], claimed: Mapping[UUID, Lease]) -> list[Ringing]:
    """The messages that gave no lease, a forged twin of one that did as well."""
    if len(claimed) == len(ringing):
        return []
    named = Counter(r.correlation_id for r in ringing)
    return [
        r
        for r in ringing
        if (lease := claimed.get(r.correlation_id)) is None
        or (named[r.correlation_id] > 1 and digest_of(lease.payload) != r.digest)
    ]


def compose(lease: Lease, *, at: datetime) -> bytes:
    """The message that rings for a request which was given back at `at`."""
    message = Message(
        correlation_id=lease.correlation_id,
        tenant_id=lease.tenant_id,
        attempt=lease.attempt,
        published_at=at,
        traceparent=lease.traceparent,
        payload=lease.payload,
    )
    return encode(message, digest_of(lease.payload))


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where messages go that gave no lease: counted, and reported when no honest API sent them."""

    pool: Pool
    provider: str
    worker: str

    def refuse(self, unreadable: Sequence[tuple[bytes, str]]) -> None:
        """Report what is no message of ours; never raises."""
        self._report(
            [
                Refused(event="message_unreadable", detail={"reason": reason, "bytes": len(raw)})
                for raw, reason in unreadable
            ]
        )

    def explain(self, unclaimed: Sequence[Ringing]) -> list[Ringing]:
        """Say why these gave no lease; returns those that must be claimed alone.

        Raises StoreUnavailable; nothing is lost by it, the rescuer rings again.
        """
        with connection(self.pool) as conn:
            known = leases.standing(conn, (r.correlation_id for r in unclaimed))
        lonely: list[Ringing] = []
        refused: list[Refused] = []
        for ringing in unclaimed:
            match self._why(ringing, known.get(ringing.correlation_id)):
                case "lonely":
                    lonely.append(ringing)
                case "message_unknown" | "message_forged" as event:
                    refused.append(
                        Refused(
                            event=event,
                            correlation_id=ringing.correlation_id,
                            detail={"digest": ringing.digest},
                        )
                    )
                case "settled":
                    # Rung twice, ended, or not due yet: the row says that there is nothing to do.
                    metrics.DROPPED.labels(self.provider, "settled").inc()
                case never:
                    assert_never(never)
        self._report(refused)
        return lonely

    @staticmethod
    def _why(ringing: Ringing, row: Standing | None) -> Reason:
        if row is None:
            return "message_unknown"
        if row.digest != ringing.digest:
            return "message_forged"
        waits = row.status is Status.PENDING and row.due
        return "lonely" if waits and row.losses >= LOSSES_BEFORE_ALONE else "settled"

    def _report(self, refused: Sequence[Refused]) -> None:
        """Count, log and record, in one commit: a flood of them must not hold the line up."""
        if not refused:
            return
        for one in refused:
            metrics.DROPPED.labels(self.provider, one.event.removeprefix("message_")).inc()
            metrics.SECURITY_EVENTS.labels(one.event).inc()
            named = {"correlation_id": str(one.correlation_id)} if one.correlation_id else {}
            logger.warning(LOG_EVENTS[one.event], extra={**named, **one.detail})
        try:
            with connection(self.pool) as conn, conn.transaction():
                for one in refused:
                    rescues.report_security_event(
                        conn, one.event, one.correlation_id, worker=self.worker, detail=one.detail
                    )
        except (StoreUnavailable, StoreRejected) as exc:
            logger.warning(
                "security.events_unrecorded", extra={"reason": str(exc), "count": len(refused)}
            )
