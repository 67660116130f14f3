"""A page of requests, and what it may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from csb_core.models import Request

#: What the requests of a page hold together, at most, unless it is one alone: some carry megabytes.
MOST_BYTES: Final = 8_388_608


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was found, newest first, and before which id to go on; None: there is no more."""

    requests: Sequence[Request]
    go_on_before: UUID | None
