"""Rings the providers' lists for what is committed; the rescuer rings for what it could not."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping

from api_service.circuit import Circuit
from csb_core import metrics
from csb_core.errors import QueueUnavailable
from csb_core.models import Draft, Message
from csb_core.queue import Queue, encode
from csb_core.requests import Accepted

log = logging.getLogger(__name__)


class Bell:
    """One doorbell per provider."""

    def __init__(self, queues: Mapping[str, Queue], circuit: Circuit) -> None:
        self._queues = queues
        self._circuit = circuit

    def ring(self, accepted: Iterable[tuple[Draft, Accepted]]) -> None:
        """Publish what is new, one command per provider; never raises for want of Redis."""
        messages: defaultdict[str, list[bytes]] = defaultdict(list)
        for draft, outcome in accepted:
            if outcome.outcome == "created":
                provider = draft.payload["cloud_provider"]
                messages[provider].append(_message(draft, outcome))
        for provider, encoded in messages.items():
            self._publish(provider, encoded)

    def _publish(self, provider: str, encoded: list[bytes]) -> None:
        if not self._circuit.is_open:
            try:
                self._queues[provider].publish(encoded)
            except QueueUnavailable as exc:
                self._circuit.trip()
                log.warning(
                    "request.publish_deferred",
                    extra={"provider": provider, "count": len(encoded), "reason": str(exc)},
                )
            else:
                metrics.PUBLISHED.labels(provider).inc(len(encoded))
                return
        metrics.PUBLISH_FAILURES.labels(provider).inc(len(encoded))


def _message(draft: Draft, accepted: Accepted) -> bytes:
    assert accepted.rung_at is not None
    message = Message(
        correlation_id=draft.correlation_id,
        tenant_id=draft.tenant_id,
        attempt=0,
        published_at=accepted.rung_at,
        traceparent=draft.traceparent,
        payload=draft.payload,
    )
    return encode(message, draft.digest)
