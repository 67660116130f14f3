"""GET /api/v1/utils/runtime: where utils run, and what the caller's tenant may ask of it."""

from __future__ import annotations

from typing import Any

from flask import Response

from api_service.call import Call
from api_service.deps import Deps
from api_service.documents import answer
from api_service.incoming import query
from api_service.runtime_seen import read_runtime, versions_of
from api_service.util_bodies import default_limits
from csb_core import util_ceilings
from csb_core.db import tenant_transaction
from csb_core.models import Json


def show_runtime(deps: Deps, call: Call) -> Response:
    """Answer with what a worker has told lately, and with the tenant's limits."""
    query(frozenset())
    runtime = read_runtime(deps)
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        ceilings = util_ceilings.of(conn, call.caller.tenant_id)
    return answer(
        {
            "worker": "seen" if runtime else "not seen",
            "python": _told(runtime, "python", str),
            "packages": versions_of(runtime),
            "tier": _told(runtime, "tier", str),
            "layers": _told(runtime, "layers", list),
            "self_test": _told(runtime, "self_test", dict),
            "limits": {
                "defaults": default_limits(ceilings),
                "ceilings": {
                    "timeout_seconds": ceilings.timeout_seconds,
                    "memory_limit_mb": ceilings.memory_limit_mb,
                    "cpu_limit": ceilings.cpu_limit,
                },
                "min_security_score": ceilings.security_score,
                "max_code_bytes": deps.settings.util_max_code_bytes,
            },
            "validation": deps.settings.util_validation,
        }
    )


def _told(runtime: Json | None, name: str, kind: type) -> Any:
    """Return a field if a worker has told it, and as what it should be."""
    value = (runtime or {}).get(name)
    return value if isinstance(value, kind) else None
