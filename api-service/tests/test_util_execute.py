"""POST /api/v1/utils/{id}/execute is POST /api/v1/requests by another path: one line, one row."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api_service.app import deps_of
from csb_core import keys, util_executions
from csb_core.errors import StoreUnavailable
from csb_core.states import Status
from csb_core.testing import Database, as_tenant, make_payload

UTILS = "/api/v1/utils"
REQUESTS = "/api/v1/requests"
SCHEMA = {"type": "object", "required": ["ip"], "properties": {"ip": {"pattern": "^[0-9.]+$"}}}
CASES = [{"name": "same", "input": 1, "expected": 1}]
SECOND = "def transform(data):\n    return [data]\n"


def execution(util: Any, value: Any = None, **more: Any) -> dict[str, Any]:
    parameters = {"util_id": util["util_id"], "input": value, **more.pop("parameters", {})}
    return {
        "cloud_provider": "sandbox",
        "action": "run_util",
        "parameters": parameters,
        **more,
    }


def url(util: Any) -> str:
    return f"{UTILS}/{util['util_id']}/execute"


def test_both_ways_make_the_very_same_request(
    client: FlaskClient, new_util: Callable[..., Any], redis_url: str
) -> None:
    util = new_util()
    limits = {"timeout_seconds": 5}
    asked = {"input": {"a": [1]}, "limits": limits, "client_request_id": "INC-1"}

    executed = client.post(url(util), json=asked)
    same = client.post(
        REQUESTS,
        json=execution(util, {"a": [1]}, client_request_id="INC-1", parameters={"limits": limits}),
    )
    again = client.post(url(util), json=asked)

    assert [r.status_code for r in (executed, same, again)] == [202, 200, 200]
    document = executed.get_json()
    assert same.get_json()["correlation_id"] == document["execution_id"]
    assert again.get_json() == document
    assert (document["util_id"], document["version"]) == (util["util_id"], 1)
    assert document["limits"] == {
        "timeout_seconds": 5.0, "memory_limit_mb": 128, "cpu_limit": 1.0,
    }  # fmt: skip
    assert (document["status"], document["result"]) == ("PENDING", None)

    shown = client.get(executed.headers["Location"]).get_json()
    assert shown["util"]["digest"] == util["digest"] == document["digest"]
    assert shown["parameters"] == {
        "util_id": util["util_id"], "input": {"a": [1]}, "limits": limits,
    }  # fmt: skip
    with redis.Redis.from_url(redis_url) as store:
        [message] = [orjson.loads(raw) for raw in store.lrange(keys.queue("sandbox"), 0, -1)]
    assert message["correlation_id"] == document["correlation_id"]


def test_input_is_held_against_the_schema_before_anything_is_queued(
    client: FlaskClient, new_util: Callable[..., Any], redis_url: str
) -> None:
    util = new_util(parameters={"input_schema": SCHEMA})

    by_path = client.post(url(util), json={"input": {"ip": "not-an-ip"}})
    by_request = client.post(REQUESTS, json=execution(util, {"ip": "not-an-ip"}))
    missing = client.post(url(util), json={"input": {}})
    good = client.post(url(util), json={"input": {"ip": "10.0.0.1"}})

    assert [r.status_code for r in (by_path, by_request, missing, good)] == [422, 422, 422, 202]
    assert [e["pointer"] for e in by_path.get_json()["errors"]] == ["/input/ip"]
    assert [e["pointer"] for e in by_request.get_json()["errors"]] == ["/parameters/input/ip"]
    assert "not-an-ip" not in by_path.text
    with redis.Redis.from_url(redis_url) as store:
        assert store.llen(keys.queue("sandbox")) == 1


def test_limits_are_lowered_and_never_above_the_ceiling(
    client: FlaskClient, new_util: Callable[..., Any], database: Database, tenant: Any
) -> None:
    util = new_util(execution_config={"timeout_seconds": 20, "memory_limit_mb": 256})

    def pinned(**limits: float) -> Any:
        return client.post(url(util), json={"input": 1, "limits": limits}).get_json()["limits"]

    assert pinned() == {"timeout_seconds": 20.0, "memory_limit_mb": 256, "cpu_limit": 1.0}
    assert pinned(timeout_seconds=2, memory_limit_mb=64.0)["memory_limit_mb"] == 64
    assert pinned(timeout_seconds=200)["timeout_seconds"] == 20.0  # it only lowers
    above = client.post(url(util), json={"input": 1, "limits": {"timeout_seconds": 301}})
    assert above.status_code == 422
    [fault] = above.get_json()["errors"]
    assert fault["pointer"] == "/limits/timeout_seconds"
    assert "300" in fault["message"]

    with psycopg.connect(database.superuser) as conn:
        conn.execute(
            "UPDATE csb_app.csb_tenants SET util_max_timeout_seconds = 3 WHERE tenant_id = %s",
            (tenant.tenant_id,),
        )
    other = new_util()  # whoever has not asked lately sees the new ceiling at once
    assert other["execution_config"]["timeout_seconds"] == 3.0


def test_same_key_is_the_same_execution_whatever_became_of_the_util(
    client: FlaskClient, new_util: Callable[..., Any]
) -> None:
    util = new_util()
    asked = {"input": "x", "client_request_id": "INC-1"}
    first = client.post(url(util), json=asked).get_json()
    here = f"{UTILS}/{util['util_id']}"

    changed = client.put(
        here, json={"code": SECOND, "parameters": {"input_schema": {"type": "integer"}}}
    )
    assert changed.get_json()["active_version"] == 2
    after_change = client.post(url(util), json=asked)
    new = client.post(url(util), json={"input": 1})
    client.post(f"{here}/deactivate")
    after_end = client.post(url(util), json=asked)
    other_body = client.post(url(util), json={**asked, "input": "y"})

    assert new.get_json()["version"] == 2
    for again in (after_change, after_end):
        assert again.status_code == 200
        assert again.get_json()["execution_id"] == first["execution_id"]
        assert again.get_json()["version"] == 1
    assert other_body.status_code == 409
    assert other_body.get_json()["code"] == "client_request_id_reused"


def test_named_version_runs_while_another_is_active(
    client: FlaskClient, new_util: Callable[..., Any]
) -> None:
    util = new_util()
    client.put(f"{UTILS}/{util['util_id']}", json={"code": SECOND})

    assert client.post(url(util), json={"input": 1}).get_json()["version"] == 2
    assert client.post(url(util), json={"input": 1, "version": 1}).get_json()["version"] == 1
    assert client.post(url(util), json={"input": 1, "version": 1.0}).status_code == 202
    assert client.post(url(util), json={"input": 1, "version": 3}).status_code == 404


def test_what_cannot_run_is_told_so(client: FlaskClient, new_util: Callable[..., Any]) -> None:
    inactive = new_util(status="inactive")
    deleted = new_util()
    client.delete(f"{UTILS}/{deleted['util_id']}")
    nobody = {"util_id": "01a20335-867c-74b7-9425-e55595a1e70a"}

    refused = client.post(url(inactive), json={"input": 1})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "util_not_active")
    assert "activate" in refused.get_json()["detail"]
    assert client.post(url(deleted), json={"input": 1}).status_code == 404
    assert client.post(url(nobody), json={"input": 1}).status_code == 404
    assert client.post(f"{UTILS}/nonsense/execute", json={"input": 1}).status_code == 404
    assert client.post(REQUESTS, json=execution(nobody, 1)).status_code == 404
    assert client.post(url(inactive), json={}).get_json()["errors"][0]["pointer"] == "/input"


def test_activation_is_seen_at_once_though_the_refusal_was_asked_for_before(
    client: FlaskClient, new_util: Callable[..., Any]
) -> None:
    util = new_util(status="inactive")
    assert client.post(url(util), json={"input": 1}).status_code == 409
    client.post(f"{UTILS}/{util['util_id']}/activate")
    assert client.post(url(util), json={"input": 1}).status_code == 202
    client.put(f"{UTILS}/{util['util_id']}", json={"status": "inactive"})
    assert client.post(url(util), json={"input": 1}).status_code == 409


def test_wait_gives_the_result_in_the_same_call(
    client: FlaskClient, new_util: Callable[..., Any], run: Callable[..., None]
) -> None:
    util = new_util()
    key = {"client_request_id": "INC-1"}
    known = client.post(url(util), json={"input": 1, **key}).get_json()["execution_id"]
    worker = threading.Timer(0.7, run, (known, {"done": True}))
    worker.start()
    began = time.monotonic()
    ended = client.post(f"{url(util)}?wait=20", json={"input": 1, **key})
    taken = time.monotonic() - began
    worker.join()

    assert ended.status_code == 200
    assert ended.get_json()["status"] == "SUCCESS"
    assert ended.get_json()["result"]["value"] == {"done": True}
    assert 0.5 < taken < 5

    slow = client.post(f"{url(util)}?wait=0.5", json={"input": 1})
    assert (slow.status_code, slow.get_json()["status"]) == (202, "PENDING")
    run(slow.get_json()["execution_id"], status=Status.FAILED)
    failed = client.get(slow.headers["Location"]).get_json()
    assert failed["status"] == "FAILED"
    assert client.post(f"{url(util)}?wait=31", json={"input": 1}).status_code == 400


def test_what_is_accepted_is_not_refused_because_its_end_cannot_be_awaited(
    app: Flask,
    client: FlaskClient,
    new_util: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or it would be asked for, and executed, once more."""
    here, tested = new_util()["links"]["self"], new_util(test_cases=CASES)["links"]["self"]

    def away(*_: Any) -> None:
        raise StoreUnavailable("the database did not answer")

    monkeypatch.setattr(deps_of(app).reader, "read", away)
    accepted = client.post(f"{here}/execute?wait=5", json={"input": 1})
    testing = client.post(f"{tested}/activate?wait=5")
    monkeypatch.undo()

    assert (accepted.status_code, testing.status_code) == (202, 202)
    for answered in (accepted, testing):
        assert client.get(answered.headers["Location"]).get_json()["status"] == "PENDING"


def test_what_executions_took_is_read_without_their_values(
    client: FlaskClient,
    new_util: Callable[..., Any],
    run: Callable[..., None],
    database: Database,
    tenant: Any,
) -> None:
    util = new_util()
    for number in range(6):
        made = client.post(url(util), json={"input": number}).get_json()["execution_id"]
        run(made, "x" * 1_000_000, Status.FAILED if number == 0 else Status.SUCCESS)
    with as_tenant(database.api, tenant.tenant_id) as conn:
        tracemalloc.start()
        found = util_executions.figures(conn, UUID(util["util_id"]), latest=100)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert [(one.wall_ms, one.memory_peak_kb) for one in found] == [(4.2, 9000)] * 5
    assert most < 500_000
    again = client.put(util["links"]["self"], json={"code": SECOND}).get_json()
    predicted = again["validation"]["predicted"]
    assert (predicted["basis"], predicted["milliseconds"]) == ("executions", 4.2)


def test_sandbox_asks_for_a_scope_of_its_own(
    key_of: Callable[..., FlaskClient], tenant: Any, new_util: Callable[..., Any]
) -> None:
    util = new_util()
    writer = key_of(tenant, "requests:read", "requests:write", "requests:operate", "utils:write")
    runner = key_of(tenant, "requests:write", "utils:execute")

    refused = writer.post(REQUESTS, json=execution(util, 1))
    batch = writer.post(f"{REQUESTS}/batch", json={"requests": [execution(util, 1)]})

    assert refused.status_code == 403
    assert "utils:execute" in refused.get_json()["detail"]
    assert batch.get_json()["results"][0]["http_status"] == 403
    assert writer.post(REQUESTS, json=make_payload()).status_code == 202
    assert runner.post(REQUESTS, json=execution(util, 1)).status_code == 202
    assert runner.post(url(util), json={"input": 1}).status_code == 202


def test_batch_carries_both_providers(client: FlaskClient, new_util: Callable[..., Any]) -> None:
    util = new_util(parameters={"input_schema": {"type": "integer"}})
    asked = [
        make_payload(),
        execution(util, 1),
        execution(util, "x"),
        execution({"util_id": "01a20335-867c-74b7-9425-e55595a1e70a"}, 1),
        execution(util, 1, parameters={"limits": {"cpu_limit": 9}}),
        execution(util, 2),
    ]

    results = client.post(f"{REQUESTS}/batch", json={"requests": asked}).get_json()["results"]

    assert [r["http_status"] for r in results] == [202, 202, 422, 404, 422, 202]
    assert results[2]["problem"]["errors"][0]["pointer"] == "/parameters/input"
    assert results[4]["problem"]["errors"][0]["pointer"] == "/parameters/limits/cpu_limit"


def test_replay_runs_what_was_pinned(
    client: FlaskClient, new_util: Callable[..., Any], run: Callable[..., None]
) -> None:
    util = new_util()
    limited = {"input": 1, "limits": {"timeout_seconds": 2}}
    made = client.post(url(util), json=limited)
    run(made.get_json()["execution_id"], status=Status.FAILED)
    client.put(f"{UTILS}/{util['util_id']}", json={"code": SECOND})

    replayed = client.post(f"{made.headers['Location']}/replay")

    assert replayed.status_code == 202, replayed.text
    new = client.get(replayed.headers["Location"]).get_json()
    assert new["replay_of"] == made.get_json()["execution_id"]
    assert new["util"] == client.get(made.headers["Location"]).get_json()["util"]
    assert new["util"]["version"] == 1
    assert new["util"]["limits"]["timeout_seconds"] == 2.0


def test_executions_of_a_util_are_found_with_it(
    client: FlaskClient, new_util: Callable[..., Any]
) -> None:
    util, other = new_util(), new_util()
    made = [client.post(url(util), json={"input": n}).get_json()["execution_id"] for n in range(3)]
    client.post(url(other), json={"input": 1})
    here = f"{UTILS}/{util['util_id']}/executions"

    first = client.get(f"{here}?limit=2").get_json()
    rest = client.get(f"{here}?limit=2&cursor={first['next_cursor']}").get_json()

    found = [item["correlation_id"] for item in first["items"] + rest["items"]]
    assert found == made[::-1]
    assert rest["next_cursor"] is None
    assert client.get(f"{here}?cursor=%21").status_code == 400


def test_page_of_executions_holds_no_more_than_the_process_can_bear(
    client: FlaskClient, new_util: Callable[..., Any], run: Callable[..., None]
) -> None:
    util, made = new_util(), []
    for number in range(12):
        made.append(client.post(url(util), json={"input": number}).get_json()["execution_id"])
        run(made[-1], "x" * 1_000_000)
    here = f"{UTILS}/{util['util_id']}/executions?limit=200"

    first = client.get(here)
    assert len(first.data) < 9_000_000
    cursor = first.get_json()["next_cursor"]
    rest = client.get(f"{here}&cursor={cursor}").get_json()

    found = [item["correlation_id"] for item in first.get_json()["items"] + rest["items"]]
    assert found == made[::-1]
    assert rest["next_cursor"] is None


def test_an_execution_larger_than_a_page_is_a_page(
    client: FlaskClient,
    new_util: Callable[..., Any],
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    util, made = new_util(), []
    for number in range(2):
        made.append(client.post(url(util), json={"input": number}).get_json()["execution_id"])
        run(made[-1], "x" * 1_000)
    monkeypatch.setattr(util_executions, "MOST_BYTES", 100)
    here = f"{UTILS}/{util['util_id']}/executions"

    first = client.get(here).get_json()
    rest = client.get(f"{here}?cursor={first['next_cursor']}").get_json()

    assert [item["correlation_id"] for item in first["items"]] == made[1:]
    assert [item["correlation_id"] for item in rest["items"]] == made[:1]
    assert rest["next_cursor"] is None


def test_fifty_identical_posts_at_once_are_one_execution(
    app: Flask, tenant: Any, new_util: Callable[..., Any], database: Database
) -> None:
    util = new_util()

    def post(_: int) -> tuple[int, str]:
        answered = app.test_client().post(
            url(util),
            json={"input": {"n": 1}},
            headers={"X-Auth-Token": tenant.token, "Idempotency-Key": "INC-1"},
        )
        return answered.status_code, answered.get_json()["execution_id"]

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))

    assert sorted(status for status, _ in answers) == [200] * 49 + [202]
    assert len({execution_id for _, execution_id in answers}) == 1
    with psycopg.connect(database.superuser) as conn:
        row = conn.execute("SELECT count(*) FROM csb_app.csb_requests").fetchone()
    assert row == (1,)


def test_requests_of_aws_pin_nothing(client: FlaskClient) -> None:
    made = client.post(REQUESTS, json=make_payload())
    assert client.get(made.headers["Location"]).get_json()["util"] is None


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("x" * 900_000, 202),
        ("x" * 1_100_000, 413),
        ([[]] * 100_000, 202),
        ({"a": {"b": None}}, 202),
        (1.5e300, 422),
        (2**53, 422),
    ],
    ids=["large", "too large", "many", "nested", "huge number", "beyond 2^53"],
)
def test_odd_inputs_are_taken_or_told(
    client: FlaskClient, new_util: Callable[..., Any], value: Any, status: int
) -> None:
    answered = client.post(url(new_util()), json={"input": value})
    assert answered.status_code == status, answered.text[:300]
