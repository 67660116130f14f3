"""How long one tenant's single request takes, alone and beside a flood of another tenant's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from bench.failure import BenchFailed
from bench.quantile import quantile
from bench.scene import Reading, Scene
from bench.store import message, payload
from bench.waiting import until
from csb_core import queue, requests
from csb_core.queue import Queue
from csb_core.testing import make_draft, make_tenant

#: Seconds that an action takes: nothing, and about what a call to a cloud takes.
_ACTIONS: Final = {"quick": 0.0, "slow": 0.05}
_PAUSE: Final = 0.02
#: The first requests of a worker find nothing prepared; they are not counted.
_WARM: Final = 20
_SAMPLES: Final = 600
#: Fewer would say nothing of the slowest.
_FEWEST: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Neighbour:
    """A tenant that asks for one thing at a time, as the API does it."""

    tenant_id: UUID
    conn: psycopg.Connection[Any]
    queue: Queue

    def ask(self) -> UUID:
        draft = make_draft(self.tenant_id, payload=payload())
        [accepted] = requests.insert(self.conn, [draft])
        self.queue.publish([message(draft, accepted)])
        return draft.correlation_id


def fairness(scene: Scene) -> Reading:
    """A neighbour's requests, 50 a second: the slowest of a hundred, with a flood and without."""
    figures: dict[str, float] = {}
    for name, seconds in _ACTIONS.items():
        with scene.worker(hold=seconds), _neighbour(scene) as neighbour:
            alone = _slowest(scene, [_paced(neighbour) for _ in range(_WARM + _SAMPLES)][_WARM:])
            flood = scene.sizes.slow_flood if seconds else scene.sizes.flood
            scene.store.fill_waiting(scene.servers.redis.url, flood)
            asked = list(_while_it_lasts(neighbour))
            if len(asked) < _FEWEST:
                raise BenchFailed(f"the flood left time for {len(asked)} requests only")
            beside = _slowest(scene, asked)
            until(lambda: scene.store.open_requests() == 0)
        figures |= {
            f"fair_{name}_alone_ms_p99": alone,
            f"fair_{name}_beside_ms_p99": beside,
            f"fair_{name}_times": beside / alone,
        }
    return Reading(figures=figures)


@contextmanager
def _neighbour(scene: Scene) -> Iterator[_Neighbour]:
    client = queue.connect(scene.servers.redis.url, timeout=timedelta(seconds=10))
    with psycopg.connect(scene.platform.urls.api, autocommit=True) as conn, client:
        yield _Neighbour(
            tenant_id=make_tenant(scene.platform.urls.admin), conn=conn, queue=Queue(client, "aws")
        )


def _paced(neighbour: _Neighbour) -> UUID:
    time.sleep(_PAUSE)
    return neighbour.ask()


def _while_it_lasts(neighbour: _Neighbour) -> Iterator[UUID]:
    for _ in range(_SAMPLES):
        if neighbour.queue.depth() < 500:
            return
        yield _paced(neighbour)


def _slowest(scene: Scene, asked: list[UUID]) -> float:
    until(lambda: scene.store.have_ended(asked))
    times = scene.store.times(asked).values()
    return round(quantile([(finished - created) * 1e3 for created, finished in times], 0.99), 2)
