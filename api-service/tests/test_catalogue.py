"""The levels before PostgreSQL: what they spare, what they forget, and whom they never trust."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry

from api_service.app import deps_of
from csb_core import keys, metrics, util_executions
from csb_core.claimed_utils import code_digest
from csb_core.local import redis as embedded_redis
from csb_core.local.redis import RedisServer

SECOND = "def transform(data):\n    return [data]\n"
SCHEMA = {"input_schema": {"type": "integer"}}


def counted(level: str, result: str) -> float:
    registry: CollectorRegistry = metrics.REGISTRY
    labels = {"level": level, "result": result}
    return registry.get_sample_value("csb_util_cache_total", labels) or 0.0


def listening(app: Flask) -> None:
    deadline = time.monotonic() + 5
    while not deps_of(app).catalogue.hears:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """Each look at PostgreSQL."""
    asked: list[UUID] = []
    resolve = util_executions.resolve

    def watched(conn: Any, util_id: UUID, version: int | None = None) -> Any:
        asked.append(util_id)
        return resolve(conn, util_id, version)

    monkeypatch.setattr(util_executions, "resolve", watched)
    return asked


def test_execution_asks_postgresql_once_for_each_process(
    app: Flask,
    make_app: Callable[..., Any],
    client: FlaskClient,
    tenant: Any,
    new_util: Callable[..., Any],
    reads: list[UUID],
) -> None:
    listening(app)
    util = new_util(parameters=SCHEMA)
    url = util["links"]["execute"]
    for _ in range(3):
        assert client.post(url, json={"input": 1}).status_code == 202
    assert len(reads) == 1

    in_redis = counted("redis", "hit")
    other = make_app().test_client()
    headers = {"X-Auth-Token": tenant.token}
    for _ in range(3):
        assert other.post(url, json={"input": 1}, headers=headers).status_code == 202
        assert other.post(url, json={"input": "x"}, headers=headers).status_code == 422
    assert len(reads) == 2  # its tenant's ceilings come from nowhere else
    assert counted("redis", "hit") - in_redis == 2  # the head, and what stands under its digest


def test_change_is_heard_by_every_process(
    app: Flask,
    make_app: Callable[..., Any],
    client: FlaskClient,
    tenant: Any,
    new_util: Callable[..., Any],
) -> None:
    other = make_app()
    listening(app)
    listening(other)
    headers = {"X-Auth-Token": tenant.token}
    util = new_util()
    url = util["links"]["execute"]

    def version() -> int:
        answered = other.test_client().post(url, json={"input": 1}, headers=headers)
        number: int = answered.get_json()["version"]
        return number

    for wanted in range(2, 6):
        assert version() == wanted - 1
        code = f"def transform(data):\n    return {wanted}\n"
        client.put(util["links"]["self"], json={"code": code})
        deadline = time.monotonic() + 1  # far less than a head is kept for
        while version() != wanted:
            assert time.monotonic() < deadline


def test_head_that_was_read_before_a_change_is_not_kept(
    app: Flask,
    client: FlaskClient,
    new_util: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow reader of the old head must not bring it back, here or in Redis."""
    listening(app)
    util = new_util()
    resolve = util_executions.resolve

    def slow(conn: Any, util_id: UUID, version: int | None = None) -> Any:
        found = resolve(conn, util_id, version)
        monkeypatch.setattr(util_executions, "resolve", resolve)
        changed = client.put(util["links"]["self"], json={"code": SECOND})
        assert changed.get_json()["active_version"] == 2
        return found

    monkeypatch.setattr(util_executions, "resolve", slow)
    overtaken = client.post(util["links"]["execute"], json={"input": 1}).get_json()["version"]

    assert overtaken == 1
    assert client.post(util["links"]["execute"], json={"input": 1}).get_json()["version"] == 2
    deps_of(app).catalogue.forget(None)
    assert client.post(util["links"]["execute"], json={"input": 1}).get_json()["version"] == 2


def test_forged_content_is_not_used(
    app: Flask, client: FlaskClient, new_util: Callable[..., Any], redis_url: str
) -> None:
    util = new_util(parameters=SCHEMA)
    client.post(util["links"]["execute"], json={"input": 1})
    content = {
        "kind": util["kind"],
        "code": util["code"],
        "parameters": {**util["parameters"], "input_schema": {}},
        "execution_config": {**util["execution_config"], "timeout_seconds": 299.0},
    }
    corrupt = counted("redis", "corrupt")
    with redis.Redis.from_url(redis_url) as store:
        for value in (orjson.dumps(content), b"[]", b"{", b'{"kind": 1}'):
            store.set(keys.util(util["digest"]), value)
            catalogue = deps_of(app).catalogue
            catalogue.forget(None)
            catalogue._programs.drop(lambda _: True)
            assert client.post(util["links"]["execute"], json={"input": "x"}).status_code == 422
    assert counted("redis", "corrupt") - corrupt == 4


def test_forged_head_permits_nothing(
    app: Flask,
    client: FlaskClient,
    client_of: Callable[..., FlaskClient],
    new_tenant: Callable[..., Any],
    new_util: Callable[..., Any],
    redis_url: str,
) -> None:
    """Whoever writes to Redis can make us ask, and PostgreSQL still says no."""
    util, stranger = new_util(), new_tenant()
    other = client_of(stranger)
    own = other.post(
        "/api/v1/utils", json={"name": "mine", "kind": "transformer", "code": util["code"]}
    ).get_json()
    other.post(own["links"]["execute"], json={"input": 1})  # its ceilings are known now
    client.post(util["links"]["execute"], json={"input": 1})
    head = {"generation": 0, "number": 1, "digest": util["digest"], "access": "owner"}
    place = (stranger.tenant_id, stranger.token[4:16], UUID(util["util_id"]), None)
    content = {
        "kind": util["kind"], "code": SECOND, "parameters": {}, "execution_config": {
            "timeout_seconds": 1, "memory_limit_mb": 16, "cpu_limit": 1},
    }  # fmt: skip
    forged = code_digest(**content)
    with redis.Redis.from_url(redis_url) as store:
        store.set(keys.util_head(*place), orjson.dumps(head))
        assert other.post(util["links"]["execute"], json={"input": 1}).status_code == 404

        mine = (stranger.tenant_id, stranger.token[4:16], UUID(own["util_id"]), None)
        store.set(keys.util_head(*mine), orjson.dumps({**head, "digest": forged}))
        store.set(keys.util(forged), orjson.dumps(content))
        deps_of(app).catalogue.forget(None)
        assert other.post(own["links"]["execute"], json={"input": 1}).status_code == 404

        store.set(keys.util_head(*mine), b'{"generation": 0, "number": "x"}')
        deps_of(app).catalogue.forget(None)
        assert other.post(own["links"]["execute"], json={"input": 1}).status_code == 202


def test_utils_work_without_redis(
    make_app: Callable[..., Any],
    settings: Any,
    fragile_redis: RedisServer,
    tenant: Any,
    body: Callable[..., Any],
) -> None:
    app = make_app(redis_url=type(settings.redis_url)(fragile_redis.url))
    listening(app)
    client: FlaskClient = app.test_client()
    client.environ_base["HTTP_X_AUTH_TOKEN"] = tenant.token
    util = client.post("/api/v1/utils", json=body()).get_json()
    assert client.post(util["links"]["execute"], json={"input": 1}).status_code == 202
    embedded_redis.stop(fragile_redis.directory)

    assert client.post(util["links"]["execute"], json={"input": 1}).status_code == 202
    changed = client.put(util["links"]["self"], json={"code": SECOND})
    assert changed.status_code == 200
    assert client.post(util["links"]["execute"], json={"input": 1}).get_json()["version"] == 2
    assert client.get("/api/v1/utils/runtime").get_json()["worker"] == "not seen"
    assert client.post("/api/v1/utils", json=body()).status_code == 201

    embedded_redis.start(fragile_redis.directory, port=fragile_redis.port, appendonly=False)
    deadline = time.monotonic() + 10
    with redis.Redis.from_url(fragile_redis.url) as store:
        while store.get(keys.util_generation(UUID(util["util_id"]))) is None:
            assert time.monotonic() < deadline  # it is said again, once somebody listens
            time.sleep(0.1)
    assert client.post(util["links"]["execute"], json={"input": 1}).get_json()["version"] == 2
