"""One admitted call: who makes it, and what it is called in logs and in what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from api_service.tracing import Trace
from csb_core.models import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a view knows of its caller."""

    caller: Caller
    trace: Trace
