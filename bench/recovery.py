"""How long a request stands still whose worker was killed with -9, at default settings."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import time
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from bench.failure import BenchFailed
from bench.quantile import quantile
from bench.scene import Reading, Scene
from bench.store import payload
from csb_core.local import processes
from csb_core.local.ports import HOST

_EACH: Final = 4
_HOLD: Final = 120.0
_PATIENCE: Final = 60.0


def recovery(scene: Scene) -> Reading:
    """Kill consumer after consumer while they hold requests; tell when those ran again."""
    killed: dict[UUID, float] = {}
    with scene.worker(hold=_HOLD) as worker:
        for _ in range(scene.sizes.kills):
            holders = _holders(scene, [_post(scene) for _ in range(_EACH)])
            victim = next(iter(holders.values()))
            if processes.parent(victim) != worker.pid:
                raise BenchFailed(f"process {victim} holds a request and is none of our workers")
            time.sleep(random.uniform(0.0, 2.0))  # somewhere between two heartbeats
            lost = [request for request, holder in _all_held(scene).items() if holder == victim]
            moment = time.time()
            os.kill(victim, signal.SIGKILL)
            killed |= dict.fromkeys(lost, moment)
        again = _await_again(scene, killed)
    seconds = [again[request] - moment for request, moment in killed.items()]
    return Reading(
        figures={
            "recovery_s_p50": round(quantile(seconds, 0.5), 2),
            "recovery_s_p99": round(quantile(seconds, 0.99), 2),
            "recovery_samples": len(seconds),
        }
    )


def _post(scene: Scene) -> UUID:
    connection = http.client.HTTPConnection(HOST, scene.api.port, timeout=10)
    try:
        connection.request(
            "POST",
            "/api/v1/requests",
            body=json.dumps(payload()),
            headers={
                "Content-Type": "application/json",
                "X-Auth-Token": scene.platform.token,
            },
        )
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 202:
            raise BenchFailed(f"a POST was answered {answer.status}: {text[:300]!r}")
        return UUID(json.loads(text)["correlation_id"])
    finally:
        connection.close()


def _holders(scene: Scene, requests: list[UUID]) -> Mapping[UUID, int]:
    """Who holds these requests, once somebody holds each of them."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        held = _all_held(scene)
        if all(request in held for request in requests):
            return {request: held[request] for request in requests}
        time.sleep(0.05)
    raise BenchFailed("requests were not claimed within a minute")


def _all_held(scene: Scene) -> dict[UUID, int]:
    rows = scene.store.conn.execute(
        """
        SELECT correlation_id, split_part(lease_owner, ':', 3)::integer
          FROM csb_app.csb_requests
         WHERE finished_at IS NULL AND status = 'IN_PROGRESS' AND attempt = 1
        """
    ).fetchall()
    return dict(rows)


def _await_again(scene: Scene, killed: Mapping[UUID, float]) -> dict[UUID, float]:
    """When each of them was claimed for the second time."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        rows = scene.store.conn.execute(
            """
            SELECT correlation_id, extract(epoch FROM at)::float8
              FROM csb_app.csb_requests_audit
             WHERE correlation_id = ANY (%s) AND to_status = 'IN_PROGRESS' AND attempt = 2
            """,
            (list(killed),),
        ).fetchall()
        if len(rows) == len(killed):
            return dict(rows)
        time.sleep(0.2)
    raise BenchFailed(f"of {len(killed)} requests {len(rows)} ran again within a minute")
