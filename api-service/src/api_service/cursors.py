"""Cursors: where a page ended, as text. They name a place in the caller's own list, no right."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from uuid import UUID

from api_service.errors import BadRequest
from csb_core.util_models import Util
from csb_core.util_search import Edge


def id_text(last: UUID) -> str:
    """Return the cursor after this id."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def id_of_cursor(text: str | None) -> UUID | None:
    """Return the id that a page begins after; raises BadRequest."""
    if text is None:
        return None
    try:
        return UUID(bytes=_bytes(text))
    except ValueError as exc:
        raise _wrong() from exc


def edge_text(last: Util) -> str:
    """Return the cursor after this util."""
    edge = f"{last.updated_at.isoformat()} {last.util_id}"
    return base64.urlsafe_b64encode(edge.encode()).decode().rstrip("=")


def edge_of(text: str) -> Edge:
    """Return the edge that a page begins after; raises BadRequest."""
    try:
        moment, _, util_id = _bytes(text).decode().partition(" ")
        updated_at = datetime.fromisoformat(moment)
        edge = Edge(updated_at=updated_at, util_id=UUID(util_id))
    except ValueError as exc:
        raise _wrong() from exc
    if updated_at.tzinfo is None:
        raise _wrong()
    return edge


def _bytes(text: str) -> bytes:
    padded = text + "=" * (-len(text) % 4)
    try:
        return base64.b64decode(padded.encode(), altchars=b"-_", validate=True)
    except binascii.Error as exc:
        raise _wrong() from exc


def _wrong() -> BadRequest:
    return BadRequest("cursor must be the next_cursor of a page")
