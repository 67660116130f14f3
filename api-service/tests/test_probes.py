"""The probes, the headers of every answer, and the listener of the metrics."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import orjson
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api_service.app import deps_of
from csb_core import requests
from csb_core.testing import make_payload

URL = "/api/v1/requests"


def test_health_asks_nobody(make_app: Callable[..., Any], settings: Any) -> None:
    nowhere = type(settings.redis_url)
    app = make_app(
        redis_url=nowhere("redis://127.0.0.1:1/0"),
        database_url=nowhere("postgresql://nobody@127.0.0.1:1/none"),
    )
    client = app.test_client()

    assert client.get("/health").get_json()["status"] == "ok"
    ready = client.get("/ready")
    assert ready.status_code == 503
    assert ready.get_json()["status"] == "unavailable"
    assert {check["status"] for check in ready.get_json()["checks"].values()} == {"down"}
    assert "127.0.0.1" not in ready.text


def test_ready_asks_postgresql_and_redis(app: Flask) -> None:
    ready = app.test_client().get("/ready")
    assert ready.status_code == 200
    assert ready.get_json()["status"] == "ready"
    assert {check["status"] for check in ready.get_json()["checks"].values()} == {"ok"}


def test_pool_that_is_lent_out_is_busy_and_not_down(make_app: Callable[..., Any]) -> None:
    app = make_app(pool_min=1, pool_max=2)
    client, pool = app.test_client(), deps_of(app).pool
    with pool.connection(), pool.connection():
        busy = client.get("/ready")
    free = client.get("/ready")

    assert busy.status_code == 200
    assert busy.get_json()["status"] == "degraded"
    assert busy.get_json()["checks"]["postgresql"]["status"] == "busy"
    assert busy.get_json()["checks"]["redis"]["status"] == "ok"
    assert free.get_json()["status"] == "ready"


def test_full_pool_does_not_hide_that_postgresql_is_away(
    make_app: Callable[..., Any], postgres_away: Callable[[], AbstractContextManager[None]]
) -> None:
    app = make_app(pool_min=1, pool_max=1)
    with deps_of(app).pool.connection(), postgres_away():
        ready = app.test_client().get("/ready")
    assert ready.status_code == 503
    assert ready.get_json()["checks"]["postgresql"]["status"] == "down"


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/metrics", "GET", 404),
        ("/api/v1/nothing", "GET", 404),
        ("/api//v1/requests", "GET", 404),
        (URL, "DELETE", 405),
        (URL, "OPTIONS", 405),
        (f"{URL}/x", "PUT", 405),
    ],
)
def test_what_is_not_there_is_a_problem(app: Flask, path: str, method: str, status: int) -> None:
    answered = app.test_client().open(path, method=method)
    assert answered.status_code == status
    assert answered.mimetype == "application/problem+json"
    assert answered.get_json()["request_id"] == answered.headers["X-Request-ID"]
    if status == 405:
        assert "GET" in answered.headers["Allow"]
        assert answered.headers["Allow"] in answered.get_json()["detail"]


def test_crash_is_a_problem_that_tells_nothing(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("secret: SELECT * FROM csb_app.csb_requests at db.internal")

    monkeypatch.setattr(requests, "get", crash)
    answered = client.get(f"{URL}/01a20335-867c-74b7-9425-e55595a1e70a")

    assert answered.status_code == 500
    assert answered.get_json()["code"] == "internal_error"
    assert not re.search("secret|SELECT|internal$|Traceback|db.internal", answered.text)


def test_request_id_is_taken_when_it_is_fit(app: Flask) -> None:
    client = app.test_client()
    assert (
        client.get("/health", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    )
    for unfit in ("", "x" * 129, "two words", "tab\there", "é"):
        made = client.get("/health", headers={"X-Request-ID": unfit}).headers["X-Request-ID"]
        assert re.fullmatch("[0-9a-f-]{36}", made)


@pytest.mark.parametrize(
    ("given", "continued"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", True),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", True),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", False),
        ("nonsense", False),
    ],
)
def test_trace_is_continued_when_it_is_fit(
    client: FlaskClient, redis_url: str, *, given: str, continued: bool
) -> None:
    client.post(URL, json=make_payload(), headers={"traceparent": given})
    with redis.Redis.from_url(redis_url) as store:
        [raw] = store.lrange("queue:aws", 0, -1)
    kept = orjson.loads(raw)["traceparent"]

    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", kept)
    assert (kept[3:35] == given[3:35]) is continued
    assert kept[36:52] != given[36:52]


def test_answers_carry_their_guards(client: FlaskClient) -> None:
    for answered in (client.get(URL), client.get("/api/v1/nothing"), client.get("/health")):
        assert answered.headers["X-Content-Type-Options"] == "nosniff"
        assert answered.headers["Cache-Control"] == "no-store"


def test_metrics_have_a_listener_of_their_own(client: FlaskClient) -> None:
    client.post(URL, json=make_payload())
    port = {"SERVER_PORT": "9090"}

    shown = client.get("/metrics", environ_overrides=port)
    assert shown.status_code == 200
    assert 'csb_http_request_seconds_count{method="POST",route="/api/v1/requests"' in shown.text
    assert 'csb_queue_depth{provider="aws"} 1.0' in shown.text
    assert client.get(URL, environ_overrides=port).status_code == 404
    assert client.get("/metrics").status_code == 404


def test_what_a_caller_makes_up_is_no_label(app: Flask) -> None:
    stranger = app.test_client()
    for number in range(3):
        assert stranger.open(URL, method=f"MADE{number}").status_code == 405
        assert stranger.open(f"/up/{number}", method=f"MADE{number}").status_code == 404

    shown = stranger.get("/metrics", environ_overrides={"SERVER_PORT": "9090"}).text
    assert 'csb_http_request_seconds_count{method="none",route="none",status="405"}' in shown
    assert "MADE" not in shown
    assert "/up/" not in shown
