"""What a worker's probes answer, and how it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import orjson

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def readiness(checks: Mapping[str, str]) -> Literal["ready", "degraded", "unready"]:
    """Judge the checks: degraded is a worker whose connections are all lent, and which works."""
    if not {"ok", "busy"}.issuperset(checks.values()):
        return "unready"
    return "degraded" if "busy" in checks.values() else "ready"


def answer_json(start_response: StartResponse, body: object, *, ok: bool) -> Iterable[bytes]:
    """Answer with JSON: 200, or 503 when it is not `ok`."""
    status = "200 OK" if ok else "503 Service Unavailable"
    return answer(start_response, status, "application/json", orjson.dumps(body) + b"\n")


def answer(start_response: StartResponse, status: str, kind: str, body: bytes) -> Iterable[bytes]:
    """Answer with a body that nobody may keep."""
    start_response(
        status,
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ],
    )
    return [body]
