"""What a worker makes of messages: reads them, and explains those that named no work."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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


def read(popped: Sequence[bytes]) -> tuple[list[Ringing], list[tuple[bytes, str]]]:
    """Take messages apart: those that can be read, once per request, and the others with why."""
    ringing: dict[UUID, Ringing] = {}
    unreadable: list[tuple[bytes, str]] = []
    for raw in popped:
        try:
            message = decode(raw)
            ringing.setdefault(
                message.correlation_id,
                Ringing(
                    raw=raw,
                    correlation_id=message.correlation_id,
                    digest=digest_of(message.payload),
                ),
            )
        except (MessageUnreadable, ValueError, TypeError, RecursionError) as exc:
            unreadable.append((raw, str(exc)))
    return list(ringing.values()), unreadable


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
        """Report what is no message of ours."""
        for raw, reason in unreadable:
            self._report(
                "message_unreadable", None, {"reason": reason, "bytes": len(raw)}, reason=reason
            )

    def explain(self, unclaimed: Sequence[Ringing]) -> list[Ringing]:
        """Say why these gave no lease; returns those that must be claimed alone.

        Raises StoreUnavailable; nothing is lost by it, the rescuer rings again.
        """
        with connection(self.pool) as conn:
            known = leases.standing(conn, (r.correlation_id for r in unclaimed))
        lonely: list[Ringing] = []
        for ringing in unclaimed:
            match self._why(ringing, known.get(ringing.correlation_id)):
                case "lonely":
                    lonely.append(ringing)
                case "message_unknown" | "message_forged" as event:
                    self._report(event, ringing.correlation_id, {"digest": ringing.digest})
                case "settled":
                    # Rung twice, ended, or not due yet: the row says that there is nothing to do.
                    metrics.DROPPED.labels(self.provider, "settled").inc()
                case never:
                    assert_never(never)
        return lonely

    @staticmethod
    def _why(ringing: Ringing, row: Standing | None) -> Reason:
        if row is None:
            return "message_unknown"
        if row.digest != ringing.digest:
            return "message_forged"
        waits = row.status is Status.PENDING and row.due
        return "lonely" if waits and row.losses >= LOSSES_BEFORE_ALONE else "settled"

    def _report(
        self, event: SecurityEvent, correlation_id: UUID | None, detail: Json, **extra: str
    ) -> None:
        metrics.DROPPED.labels(self.provider, event.removeprefix("message_")).inc()
        metrics.SECURITY_EVENTS.labels(event).inc()
        logger.warning(
            LOG_EVENTS[event],
            extra={"correlation_id": str(correlation_id) if correlation_id else None, **extra},
        )
        try:
            with connection(self.pool) as conn:
                rescues.report_security_event(
                    conn, event, correlation_id, worker=self.worker, detail=detail
                )
        except (StoreUnavailable, StoreRejected) as exc:
            logger.warning("security.event_unrecorded", extra={"reason": str(exc)})
