"""The platform's own figures, over real HTTP, at its defaults but for the rate limits."""

from __future__ import annotations

import json
from typing import Final

import redis

from bench import cpu, load
from bench.cpu import Spent
from bench.failure import BenchFailed
from bench.generator import MARK
from bench.load import Answered, Load
from bench.quantile import percentiles
from bench.scene import Reading, Scene, numbers
from bench.store import payload
from bench.waiting import until
from csb_core import keys
from csb_core.queue import Queue

_PATH: Final = "/api/v1/requests"
_KEY: Final = f"bench-{MARK.decode()}"
_HIT_IDS: Final = 64


def post(scene: Scene) -> Reading:
    """POSTs accepted a second: authenticate, limit, validate, persist with audit, publish."""
    answered = load.run(_posts(scene, connections=scene.sizes.connections), scene.meter())
    published = _published(scene)
    if published < answered.count:
        raise BenchFailed(f"{answered.count} accepted, but {published} messages in the list")
    return Reading(
        figures={"post_per_s": answered.per_second}
        | _named("post_ms", percentiles(answered.latencies)),
        cpu={"post": _cpu(answered)},
    )


def batch(scene: Scene) -> Reading:
    """Requests accepted a second by POSTs of many at once."""
    size = scene.sizes.batch
    body = {"requests": [payload(client_request_id=f"{_KEY}-{index:04d}") for index in range(size)]}
    answered = load.run(
        Load(
            port=scene.api.port,
            request=request_bytes(scene, "POST", f"{_PATH}/batch", body),
            expect="202",
            must=f'"accepted":{size},',
            connections=scene.sizes.batch_connections,
            warm=scene.sizes.warm,
            window=scene.sizes.window,
            first=numbers(),
        ),
        scene.meter(),
    )
    return Reading(
        figures={"batch_requests_per_s": answered.per_second * size},
        cpu={"batch": _cpu(answered, size)},
    )


def hit(scene: Scene) -> Reading:
    """GETs a second of statuses that are cached."""
    ids = scene.store.some_ids(_HIT_IDS)
    warmed = 0
    while warmed < 3 * len(ids):
        warmed += _get(scene, ids, "", warm=0.0, window=0.5, again=True).count
    answered = _get(
        scene, ids, "X-Cache: hit", warm=scene.sizes.warm, window=scene.sizes.window, again=True
    )
    return Reading(figures={"hit_per_s": answered.per_second}, cpu={"hit": _cpu(answered)})


def miss(scene: Scene) -> Reading:
    """GETs a second of statuses that are not cached: each is read and filled in."""
    ids = scene.store.some_ids(scene.sizes.stock // 4)
    answered = _get(
        scene,
        ids,
        "X-Cache: miss",
        warm=min(scene.sizes.warm, 1.0),
        window=min(scene.sizes.window, 3.0),
    )
    return Reading(figures={"miss_per_s": answered.per_second}, cpu={"miss": _cpu(answered)})


def line(scene: Scene) -> Reading:
    """The whole line saturated: POSTs as fast as they are accepted, and workers at once."""
    with scene.worker():
        answered = load.run(_posts(scene, connections=scene.sizes.connections), scene.meter())
        finished = scene.store.finished_between(answered.began, answered.ended)
    seconds = answered.ended - answered.began
    spent = cpu.per_unit(answered.before, answered.after, max(1, finished))
    return Reading(
        figures={"line_finished_per_s": finished / seconds, "line_post_per_s": answered.per_second},
        cpu={"line": spent},
    )


def latency(scene: Scene) -> Reading:
    """From POST to end at a steady rate, by the database's clock and by who sends the POST."""
    with scene.worker():
        answered = load.run(_posts(scene, rate=scene.sizes.rate), scene.meter())
        _await_ends(scene)
        times = scene.store.times([shot.correlation_id for shot in answered.shots])
    to_end, in_store = [], []
    for shot in answered.shots:
        created, finished = times[shot.correlation_id]
        to_end.append((finished - shot.wall) * 1e3)
        in_store.append((finished - created) * 1e3)
    figures = _named("to_end_ms", percentiles(to_end)) | _named("stored_ms", percentiles(in_store))
    answers = _named("answer_ms", percentiles([shot.answered_ms for shot in answered.shots]))
    return Reading(figures=figures | answers, cpu={"steady": _cpu(answered)})


def seen(scene: Scene) -> Reading:
    """From POST to the moment when a long poll tells its sender that the request has ended."""
    follow = request_bytes(scene, "GET", f"{MARK.decode()}?wait=30", None)
    with scene.worker():
        answered = load.run(_posts(scene, rate=scene.sizes.rate, follow=follow), scene.meter())
    told = percentiles([shot.seen_ms for shot in answered.shots])
    return Reading(figures=_named("seen_ms", told), cpu={"seen": _cpu(answered)})


def drain(scene: Scene) -> Reading:
    """Requests that wait, claimed, executed and recorded under RLS with their audit."""
    count = scene.sizes.drain
    scene.store.fill_waiting(scene.servers.redis.url, count)
    with redis.Redis.from_url(scene.servers.redis.url) as client, scene.worker():
        queue = Queue(client, "aws")
        until(lambda: queue.depth() < count)
        meter, left = scene.meter(), queue.depth()
        before = meter.read()
        until(lambda: queue.depth() == 0)
        _await_ends(scene)
        after = meter.read()
    seconds = scene.store.drained(scene.since, count)
    return Reading(
        figures={"drain_per_s": count / seconds},
        cpu={"drain": cpu.per_unit(before, after, left)},
    )


def _posts(scene: Scene, *, connections: int = 0, rate: int = 0, follow: bytes = b"") -> Load:
    return Load(
        port=scene.api.port,
        request=request_bytes(scene, "POST", _PATH, payload(client_request_id=_KEY)),
        expect="202",
        connections=connections,
        rate=rate,
        follow=follow,
        warm=scene.sizes.warm,
        window=scene.sizes.latency if rate else scene.sizes.window,
        first=numbers(),
    )


def _get(
    scene: Scene, ids: list[str], must: str, *, warm: float, window: float, again: bool = False
) -> Answered:
    request = request_bytes(scene, "GET", f"{_PATH}/{MARK.decode()}", None)
    return load.run(
        Load(
            port=scene.api.port,
            request=request,
            expect="200",
            must=must,
            connections=scene.sizes.connections,
            warm=warm,
            window=window,
            values=ids,
            again=again,
        ),
        scene.meter(),
    )


def request_bytes(scene: Scene, method: str, path: str, body: object) -> bytes:
    """A whole HTTP request of the platform's tenant."""
    text = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    about = f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n" if text else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{scene.api.port}\r\n"
        f"X-Auth-Token: {scene.platform.token}\r\n{about}\r\n"
    )
    return head.encode() + text


def _published(scene: Scene) -> int:
    with redis.Redis.from_url(scene.servers.redis.url) as client:
        return int(client.llen(keys.queue("aws")))


def _await_ends(scene: Scene) -> None:
    until(lambda: scene.store.open_requests() == 0)


def _cpu(answered: Answered, each: int = 1) -> Spent:
    return cpu.per_unit(answered.before, answered.after, max(1, answered.count * each))


def _named(name: str, told: dict[str, float]) -> dict[str, float]:
    return {f"{name}_{share}": value for share, value in told.items()}
