"""Identifiers that grow with time: UUID version 7 (RFC 9562, section 5.7)."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7; within a process each is greater than the one before."""
    return uuid7()
