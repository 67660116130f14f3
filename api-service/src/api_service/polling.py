"""A caller that waits for a request: it reads, sleeps until the request moves, reads again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from api_service.deps import Deps
from api_service.errors import BadRequest
from api_service.reading import Shown

LONGEST_WAIT: Final = 30.0

#: As JSON writes a number, but for its sign; Python's own reading takes 1_0, ٣ and inf as well.
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def wait_for(
    deps: Deps,
    tenant_id: UUID,
    wanted: UUID,
    seconds: float,
    *,
    is_awaited: Callable[[Shown], bool],
    is_ours: bool = False,
) -> Shown:
    """Return the request as it is when it is as awaited, or when the time is up.

    `is_ours`: this call has just written it, so it need not be looked for first. Nothing is held
    while the caller sleeps. Raises NotFound, StoreUnavailable.
    """
    deadline = time.monotonic() + seconds
    if not is_ours:
        deps.reader.read(tenant_id, wanted)  # nobody waits for what is not there
    with deps.waiting.place(wanted) as place:
        shown = deps.reader.read(tenant_id, wanted)
        while place is not None and not is_awaited(shown):
            left = deadline - time.monotonic()
            if left <= 0 or deps.waiting.is_over:
                break
            place.pause(timedelta(seconds=left))
            shown = deps.reader.read(tenant_id, wanted)
    return shown


def wait_seconds(text: str | None) -> float:
    """Return the parameter wait as a number; raises BadRequest."""
    if text is None:
        return 0.0
    if not _NUMBER.fullmatch(text) or float(text) > LONGEST_WAIT:
        raise BadRequest(f"wait must be a number of seconds from 0 to {LONGEST_WAIT:g}")
    return float(text)
