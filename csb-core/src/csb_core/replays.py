"""Asking again for what failed: a new request with the old payload, that names the old one."""

from __future__ import annotations

from collections.abc import Sequence

from csb_core.contract import digest_of
from csb_core.ids import new_id
from csb_core.models import Draft
from csb_core.oversight import Failure


def drafts_of(failures: Sequence[Failure], *, actor: str, request_id: str) -> list[Draft]:
    """Return the drafts that ask for these failures again, in their order.

    The database lets a failure have one replay that is not cancelled, whoever asks twice: the
    second draft is answered `replayed`. What is replayed again is the replay that failed.
    """
    return [_draft_of(failure, actor=actor, request_id=request_id) for failure in failures]


def _draft_of(failure: Failure, *, actor: str, request_id: str) -> Draft:
    payload = {k: v for k, v in failure.payload.items() if k != "client_request_id"}
    return Draft(
        correlation_id=new_id(),
        tenant_id=failure.tenant_id,
        payload=payload,
        digest=digest_of(payload),
        client_request_id=None,
        requested_by=actor,
        request_id=request_id,
        traceparent=None,
        replay_of=failure.correlation_id,
        util=failure.util,
    )
