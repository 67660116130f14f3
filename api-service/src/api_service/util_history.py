"""What past executions of a util took, for the validator's prediction."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from api_service.call import Call
from api_service.deps import Deps
from csb_core import util_executions
from csb_core.db import tenant_transaction
from csb_core.lint import History

_LATEST: Final = 100


def history_of(deps: Deps, call: Call, util_id: UUID) -> History | None:
    """Return what the tenant's latest successful executions took; None without any."""
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        found = util_executions.figures(conn, util_id, latest=_LATEST)
    if not found:
        return None
    wall = sorted(one.wall_ms for one in found)
    return History(
        count=len(wall),
        p50_ms=wall[len(wall) // 2],
        p95_ms=wall[min(len(wall) - 1, len(wall) * 95 // 100)],
        peak_kb=round(max(one.memory_peak_kb for one in found)),
    )
