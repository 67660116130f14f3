"""What the API answers with: requests, receipts, trails, pages, as schema.json describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson
from flask import Response

from csb_core.models import Draft, Json, PinnedUtil, Request
from csb_core.requests import Accepted
from csb_core.states import Status

ROOT: Final = "/api/v1/requests"
_JSON: Final = "application/json"
_OPTIONS: Final = orjson.OPT_UTC_Z


def answer(document: Json | bytes, status: int = 200, **headers: str) -> Response:
    """Return a JSON response; header names are given with underscores for hyphens."""
    body = document if isinstance(document, bytes) else orjson.dumps(document, option=_OPTIONS)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(body, status=status, headers=named, content_type=_JSON)


def path_of(correlation_id: UUID) -> str:
    """Return where a request is found."""
    return f"{ROOT}/{correlation_id}"


def links(correlation_id: UUID, status: Status) -> Json:
    """Return where to go from a request, with what can be done to it in this state."""
    here = path_of(correlation_id)
    found = {"self": here, "audit": f"{here}/audit", "refs": f"{here}/refs"}
    if status is Status.PENDING:
        found["cancel"] = f"{here}/cancel"
    elif status is Status.FAILED:
        found["replay"] = f"{here}/replay"
    return found


def request_document(request: Request) -> Json:
    """Return a request as its tenant sees it."""
    return {
        "correlation_id": request.correlation_id,
        "status": request.status,
        "version": request.version,
        "cloud_provider": request.cloud_provider,
        "action": request.action,
        "account_id": request.account_id,
        "principal": request.principal,
        "parameters": request.parameters,
        "dry_run": request.dry_run,
        "client_request_id": request.client_request_id,
        "attempt": request.attempt,
        "max_attempts": request.max_attempts,
        "result": request.result,
        "changed": request.changed,
        "error": request.error,
        "requested_by": request.requested_by,
        "replay_of": request.replay_of,
        "util": pin_document(request.util) if request.util else None,
        "available_at": utc(request.available_at),
        "created_at": utc(request.created_at),
        "updated_at": utc(request.updated_at),
        "started_at": utc(request.started_at),
        "finished_at": utc(request.finished_at),
        "links": links(request.correlation_id, request.status),
    }


def pin_document(pin: PinnedUtil) -> Json:
    """Return what a request runs, and what that may take."""
    return {
        "util_id": pin.util_id,
        "version": pin.version,
        "digest": pin.digest,
        "limits": asdict(pin.limits),
    }


def request_bytes(request: Request) -> bytes:
    """Return a request's document as it is sent, and cached."""
    return orjson.dumps(request_document(request), option=_OPTIONS)


def receipt(draft: Draft, accepted: Accepted) -> Json:
    """Return what a POST answers with; `accepted` is of the outcome created or exists."""
    assert accepted.correlation_id is not None
    assert accepted.status is not None
    return {
        "correlation_id": accepted.correlation_id,
        "status": accepted.status,
        "version": accepted.version,
        "cloud_provider": draft.payload["cloud_provider"],
        "action": draft.payload["action"],
        "client_request_id": draft.client_request_id,
        "replay_of": draft.replay_of,
        "created_at": utc(accepted.created_at),
        "links": links(accepted.correlation_id, accepted.status),
    }


def page(requests: Sequence[Request], next_cursor: str | None) -> Json:
    """Return one page of a search."""
    return {"items": [request_document(r) for r in requests], "next_cursor": next_cursor}


def rows(entries: Sequence[Json], fields: Sequence[str]) -> Json:
    """Return the trail or the references of a request, with these fields of each row."""
    return {"items": [{name: _shown(entry[name]) for name in fields} for entry in entries]}


def _shown(value: Any) -> Any:
    return utc(value) if isinstance(value, datetime) else value


def utc(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC) if moment is not None else None
