"""Identifiers that grow with time: UUID version 7 (RFC 9562, section 5.7)."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7; within a process each is greater than the one before."""
    return uuid7()


def made_at(identifier: UUID) -> float:
    """When a UUIDv7 was made, as a Unix time: it carries the milliseconds of its maker's clock."""
    return int.from_bytes(identifier.bytes[:6]) / 1000
