"""What the sandbox workers have told of the runtime lately, through Redis."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import orjson
import redis

from api_service.deps import Deps
from csb_core import keys
from csb_core.models import Json

log = logging.getLogger(__name__)


def read_runtime(deps: Deps) -> Json | None:
    """Return the runtime as a worker describes it; None when none has within its expiry."""
    try:
        told: Any = deps.redis.get(keys.sandbox_runtime())
        runtime = orjson.loads(told) if told else None
    except (redis.RedisError, OSError, ValueError) as exc:
        log.warning("runtime.unread", extra={"reason": type(exc).__name__})
        return None
    return runtime if isinstance(runtime, dict) else None


def modules_of(runtime: Json | None) -> Mapping[str, tuple[str, ...]] | None:
    """Return the packages that a util may declare, with what they bring; None if nobody tells."""
    packages = (runtime or {}).get("packages")
    if not isinstance(packages, dict):
        return None
    return {name: _modules(name, about) for name, about in packages.items()}


def versions_of(runtime: Json | None) -> dict[str, str] | None:
    """Return the packages that a util may declare, each with its version."""
    packages = (runtime or {}).get("packages")
    if not isinstance(packages, dict):
        return None
    return {name: _version(about) for name, about in packages.items()}


def _modules(name: str, about: Any) -> tuple[str, ...]:
    named = about.get("modules") if isinstance(about, dict) else None
    return tuple(named) if named else (name.replace("-", "_").lower(),)


def _version(about: Any) -> str:
    return str(about.get("version", "") if isinstance(about, dict) else about)
