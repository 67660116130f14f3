"""What a request's row says of the util that it runs, and what a draft's says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from csb_core.models import Json, PinnedUtil, UtilLimits


def pin_of(row: Mapping[str, Any]) -> PinnedUtil | None:
    """Return the util that a row of csb_requests pins; None where it runs none."""
    if row["util_id"] is None:
        return None
    return PinnedUtil(
        util_id=row["util_id"],
        version=row["util_version"],
        digest=row["util_digest"],
        limits=limits_of(row["util_limits"]),
    )


def limits_of(fields: Mapping[str, Any]) -> UtilLimits:
    """Return a document of limits as a value."""
    return UtilLimits(
        timeout_seconds=float(fields["timeout_seconds"]),
        memory_limit_mb=int(fields["memory_limit_mb"]),
        cpu_limit=float(fields["cpu_limit"]),
    )


def pinning(util: PinnedUtil, *, advisory: bool) -> Json:
    """Return the fields by which an item of `submit` pins a util."""
    return {
        "util_id": util.util_id,
        "util_version": util.version,
        "util_digest": util.digest,
        "util_limits": asdict(util.limits),
        "advisory": advisory,
    }
