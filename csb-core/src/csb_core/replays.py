"""Asking again for what failed: a new request with the old payload, that names the old one."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from csb_core.contract import digest_of
from csb_core.ids import new_id
from csb_core.models import Draft
from csb_core.oversight import Failure


def drafts_of(failures: Sequence[Failure], *, actor: str, request_id: str) -> list[Draft]:
    """Return the drafts that ask for these failures again, in their order.

    Each bears the name `replay:<old id>`, so a failure is replayed once, whoever tries it twice;
    what is replayed again is the replay that failed.
    """
    return [_draft_of(failure, actor=actor, request_id=request_id) for failure in failures]


def name_of(correlation_id: UUID) -> str:
    """Return the client_request_id of the one replay that a request can have."""
    return f"replay:{correlation_id}"


def _draft_of(failure: Failure, *, actor: str, request_id: str) -> Draft:
    payload = {k: v for k, v in failure.payload.items() if k != "client_request_id"}
    return Draft(
        correlation_id=new_id(),
        tenant_id=failure.tenant_id,
        payload=payload,
        digest=digest_of(payload),
        client_request_id=name_of(failure.correlation_id),
        requested_by=actor,
        request_id=request_id,
        traceparent=None,
        replay_of=failure.correlation_id,
        util=failure.util,
    )
