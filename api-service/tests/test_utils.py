"""The life of a util over HTTP: created, read, changed in versions, taken back, deleted."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry

from csb_core import metrics, util_versions
from csb_core.claimed_utils import code_digest
from csb_core.testing import Database

UTILS = "/api/v1/utils"
BAD = "import os\n\ndef transform(data):\n    return eval(data)\n"
SECOND = "def transform(data):\n    return [data]\n"
Body = Callable[..., dict[str, Any]]


def pointers(answered: Any) -> list[str]:
    assert answered.status_code == 422, answered.text
    return [error["pointer"] for error in answered.get_json()["errors"]]


def test_created_util_has_every_field(client: FlaskClient, body: Body, tenant: Any) -> None:
    asked = body(
        name="defang-iocs",
        language="python",
        parameters={"input_schema": {"type": "object"}},
        metadata={"version": "1.2.0", "tags": ["ioc", "text"], "category": "parsing"},
        execution_config={"timeout_seconds": 5},
    )
    made = client.post(UTILS, json=asked)

    assert made.status_code == 201
    util = made.get_json()
    assert made.headers["Location"] == f"{UTILS}/{util['util_id']}" == util["links"]["self"]
    assert made.headers["ETag"] == f'"{util["revision"]}"' == '"1"'
    for name in ("name", "description", "kind", "code", "language", "metadata"):
        assert util[name] == asked[name]
    assert util["parameters"] == {
        "input_schema": {"type": "object"}, "output_schema": {}, "dependencies": [],
    }  # fmt: skip
    assert util["execution_config"] == {
        "timeout_seconds": 5.0, "memory_limit_mb": 128, "cpu_limit": 1.0,
    }  # fmt: skip
    assert util["tenant_id"] == str(tenant.tenant_id)
    assert util["user_id"] == util["created_by"] == util["updated_by"] == tenant.token[4:16]
    assert (util["status"], util["version"], util["active_version"]) == ("active", 1, 1)
    assert util["access"] == "owner"
    assert util["validation"]["is_valid"] is True
    assert 0 < util["validation"]["security_score"] <= 100
    assert util["digest"] == code_digest(
        "transformer", asked["code"], util["parameters"], util["execution_config"]
    )
    read = client.get(util["links"]["self"])
    assert read.get_json() == util
    unchanged = client.get(util["links"]["self"], headers={"If-None-Match": '"1"'})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    weak = client.get(util["links"]["self"], headers={"If-None-Match": 'W/"1"'})
    assert weak.status_code == 304


def test_code_is_refused_with_its_places(client: FlaskClient, body: Body) -> None:
    refused = client.post(UTILS, json=body(code=BAD))

    assert refused.status_code == 422
    problem = refused.get_json()
    assert problem["code"] == "code_refused"
    errors = [e for e in problem["errors"] if e["severity"] == "error"]
    assert errors == problem["errors"][: len(errors)]  # what must be mended stands first
    assert {(e["pointer"], e["line"]) for e in errors} >= {("/code", 1), ("/code", 4)}
    assert all(e["rule"] and e["message"] and e["col"] >= 1 for e in errors)
    assert client.get(UTILS).get_json()["total"] == 0

    validated = client.post(f"{UTILS}/validate", json={"kind": "transformer", "code": BAD})
    assert validated.status_code == 200
    assert validated.get_json()["is_valid"] is False
    assert {f["rule"] for f in validated.get_json()["validation_errors"]} >= {
        e["rule"] for e in errors
    }
    good = client.post(f"{UTILS}/validate", json={"kind": "transformer", "code": SECOND})
    assert good.get_json()["is_valid"] is True
    assert client.get(UTILS).get_json()["total"] == 0


def test_advice_stores_and_runs_what_is_invalid(
    make_app: Callable[..., Any], body: Body, tenant: Any
) -> None:
    client = make_app(util_validation="advisory").test_client()
    headers = {"X-Auth-Token": tenant.token}

    made = client.post(UTILS, json=body(code=BAD), headers=headers)
    assert made.status_code == 201
    util = made.get_json()
    assert (util["validation"]["is_valid"], util["status"]) == (False, "active")
    accepted = client.post(f"{util['links']['execute']}", json={"input": 1}, headers=headers)
    assert accepted.status_code == 202

    strict = make_app().test_client()
    refused = strict.post(f"{util['links']['execute']}", json={"input": 1}, headers=headers)
    assert (refused.status_code, refused.get_json()["code"]) == (409, "util_not_active")


def test_everything_wrong_is_told_at_once(client: FlaskClient, body: Body) -> None:
    told = pointers(
        client.post(
            UTILS,
            json=body(
                name=" padded",
                kind="robot",
                surprise=1,
                metadata={"tags": ["UPPER"], "version": "one"},
                execution_config={"memory_limit_mb": 1},
                test_cases=[{"name": "x"}],
            ),
        )
    )
    assert told == [
        "/execution_config/memory_limit_mb", "/kind", "/metadata/tags/0", "/metadata/version",
        "/name", "/surprise", "/test_cases/0/expected", "/test_cases/0/input",
    ]  # fmt: skip
    assert pointers(client.post(UTILS, json={})) == ["/code", "/kind", "/name"]
    assert pointers(client.post(UTILS, json=[])) == [""]
    deep = client.post(
        UTILS,
        json=body(
            code="#" + "x" * 70_000,
            parameters={
                "input_schema": {"$ref": "https://example.com/x"},
                "output_schema": {"type": "strin"},
            },
            execution_config={"timeout_seconds": 999, "cpu_limit": 2},
        ),
    )
    assert pointers(deep) == [
        "/code", "/execution_config/timeout_seconds", "/execution_config/cpu_limit",
        "/parameters/input_schema/$ref", "/parameters/output_schema/type",
    ]  # fmt: skip
    unfit = body(
        parameters={"input_schema": {"type": "integer"}, "output_schema": {"type": "string"}},
        test_cases=[{"name": "x", "input": "1", "expected": 1}],
    )
    assert pointers(client.post(UTILS, json=unfit)) == [
        "/test_cases/0/input", "/test_cases/0/expected",
    ]  # fmt: skip


def test_name_is_taken_once_in_a_tenant(
    client: FlaskClient,
    client_of: Callable[..., FlaskClient],
    new_tenant: Callable[..., Any],
    body: Body,
) -> None:
    first = client.post(UTILS, json=body(name="one")).get_json()
    other = client.post(UTILS, json=body(name="two")).get_json()

    assert client.post(UTILS, json=body(name="one")).status_code == 409
    assert client.put(other["links"]["self"], json={"name": "one"}).status_code == 409
    assert client_of(new_tenant()).post(UTILS, json=body(name="one")).status_code == 201
    assert client.delete(first["links"]["self"]).status_code == 200
    assert client.post(UTILS, json=body(name="one")).status_code == 201


def test_only_what_runs_makes_a_version(client: FlaskClient, new_util: Callable[..., Any]) -> None:
    util = new_util()
    here = util["links"]["self"]

    described = client.put(here, json={"description": "New.", "metadata": {"tags": ["a"]}})
    same = client.put(here, json={"code": util["code"]})
    coded = client.put(here, json={"code": SECOND})
    limited = client.put(here, json={"execution_config": {"timeout_seconds": 3}})
    labelled = client.put(here, json={"metadata": {"version": "2.0.0"}})
    renamed = client.put(here, json={"name": "another", "parameters": {"dependencies": []}})

    versions = [
        (r.get_json()["version"], r.get_json()["revision"])
        for r in (described, same, coded, limited, labelled, renamed)
    ]
    assert versions == [(1, 2), (1, 2), (2, 3), (3, 4), (4, 5), (4, 6)]
    final = renamed.get_json()
    assert final["active_version"] == 4
    assert (final["name"], final["description"]) == ("another", "New.")
    assert final["metadata"] == {"version": "2.0.0", "tags": ["a"], "category": ""}
    assert final["execution_config"]["timeout_seconds"] == 3.0
    assert final["code"] == SECOND
    assert client.put(here, json={}).status_code == 422
    assert pointers(client.put(here, json={"kind": "script"})) == ["/kind"]
    assert client.put(here, json={"kind": "transformer"}).status_code == 200
    assert client.put(here, json={"code": BAD}).get_json()["code"] == "code_refused"
    assert client.get(here).get_json() == final


def test_change_of_what_has_changed_meanwhile_is_refused(
    client: FlaskClient, new_util: Callable[..., Any]
) -> None:
    util = new_util()
    here = util["links"]["self"]
    client.put(here, json={"description": "One."})
    stale = {"If-Match": '"1"'}

    for refused in (
        client.put(here, json={"description": "Two."}, headers=stale),
        client.post(f"{here}/rollback", json={"version": 1}, headers=stale),
        client.post(f"{here}/activate", headers=stale),
        client.post(f"{here}/deactivate", headers=stale),
        client.delete(here, headers=stale),
    ):
        assert refused.status_code == 412
        assert refused.get_json()["code"] == "revision_mismatch"

    def described(text: str, etag: str) -> int:
        headers = {"If-Match": etag}
        return client.put(here, json={"description": text}, headers=headers).status_code

    assert described("3.", client.get(here).headers["ETag"]) == 200
    assert described("4.", "*") == 200
    assert described("5.", '"2"') == 412
    assert described("6.", '"2", "4"') == 200
    assert described("7.", 'W/"5"') == 412
    assert described("8.", "") == 400


def test_changes_at_once_are_all_made(
    app: Flask, tenant: Any, client: FlaskClient, new_util: Callable[..., Any]
) -> None:
    here = new_util()["links"]["self"]
    headers = {"X-Auth-Token": tenant.token}

    def change(n: int) -> int:
        said = {"metadata": {"tags": [f"t{n}"]}} if n % 2 else {"description": f"No. {n}."}
        return app.test_client().put(here, json=said, headers=headers).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(change, range(4))) == {200}
    util = client.get(here).get_json()
    assert util["revision"] == 5
    assert util["metadata"]["tags"]
    assert util["description"].startswith("No. ")


def test_versions_stay_and_come_back(client: FlaskClient, new_util: Callable[..., Any]) -> None:
    util = new_util(metadata={"version": "1.0.0"})
    here = util["links"]["self"]
    client.put(
        here,
        json={
            "code": SECOND,
            "parameters": {"input_schema": {"type": "integer"}},
            "metadata": {"version": "1.1.0"},
        },
    )

    diff = client.get(f"{here}/diff?from=1&to=2").get_json()
    assert "-    return data" in diff["code"]
    assert "+    return [data]" in diff["code"]
    assert diff["code"].startswith("--- version 1\n+++ version 2\n@@")
    assert {c["pointer"]: (c["from"], c["to"]) for c in diff["changes"]} == {
        "/label": ("1.0.0", "1.1.0"),
        "/parameters/input_schema/type": (None, "integer"),
    }
    assert client.get(f"{here}/diff").get_json() == diff

    rolled = client.post(f"{here}/rollback", json={"version": 1}).get_json()
    assert (rolled["version"], rolled["active_version"]) == (3, 3)
    assert (rolled["code"], rolled["digest"]) == (util["code"], util["digest"])
    listed = client.get(f"{here}/versions").get_json()["items"]
    assert [(v["version"], v["rollback_of"], v["label"]) for v in listed] == [
        (3, 1, "1.0.0"), (2, None, "1.1.0"), (1, None, "1.0.0"),
    ]  # fmt: skip
    page = client.get(f"{here}/versions?limit=2").get_json()
    rest = client.get(f"{here}/versions?cursor={page['next_cursor']}").get_json()
    assert [v["version"] for v in rest["items"]] == [1]

    second = client.get(listed[1]["links"]["self"]).get_json()
    assert (second["code"], second["version"]) == (SECOND, 2)
    assert client.get(f"{here}/versions/9").status_code == 404
    assert client.get(f"{here}/versions/x").status_code == 404
    assert client.get(f"{here}/versions/99999999999").status_code == 404
    assert client.get(f"{here}/diff?from=9").status_code == 404
    assert "no version 31 " in client.get(f"{here}/diff?to=31").get_json()["detail"]
    assert client.get(f"{here}/diff?from=0").status_code == 400
    assert client.post(f"{here}/rollback", json={"version": 9}).status_code == 404


def test_deleted_util_is_gone_and_its_executions_are_not(
    client: FlaskClient, new_util: Callable[..., Any], run: Callable[..., None]
) -> None:
    util = new_util()
    here = util["links"]["self"]
    made = client.post(f"{here}/execute", json={"input": 1})

    refused = client.delete(here)
    assert refused.status_code == 409
    assert "1 executions" in refused.get_json()["detail"]
    run(made.get_json()["execution_id"], 1)
    deleted = client.delete(here)

    assert deleted.status_code == 200
    assert deleted.get_json()["status"] == "deleted"
    for path in ("", "/versions", "/versions/1", "/diff", "/shares", "/executions"):
        assert client.get(f"{here}{path}").status_code == 404
    assert client.put(here, json={"description": "x"}).status_code == 404
    assert client.post(f"{here}/execute", json={"input": 1}).status_code == 404
    assert client.delete(here).status_code == 404
    assert client.get(made.headers["Location"]).get_json()["util"]["util_id"] == util["util_id"]


def test_list_is_paged_and_narrowed(client: FlaskClient, new_util: Callable[..., Any]) -> None:
    for n in range(5):
        new_util(
            name=f"util {n}",
            metadata={"tags": ["even" if n % 2 == 0 else "odd"], "category": "parsing"},
            status="active" if n else "inactive",
            description="100% sure_thing" if n == 3 else "Plain.",
        )
    new_util(name="script", kind="script", code="def main(params):\n    return params\n")

    def names(query: str) -> list[str]:
        answered = client.get(f"{UTILS}?{query}")
        assert answered.status_code == 200, answered.text
        return [item["name"] for item in answered.get_json()["items"]]

    first = client.get(f"{UTILS}?page_size=4").get_json()
    assert (first["total"], first["page"], len(first["items"])) == (6, 1, 4)
    assert first["items"][0]["name"] == "script"
    assert "code" not in first["items"][0]
    assert names("page_size=4&page=2") == ["util 1", "util 0"]
    assert names(f"page_size=4&cursor={first['next_cursor']}") == ["util 1", "util 0"]
    assert names("tag=even") == ["util 4", "util 2", "util 0"]
    assert names("status=inactive") == ["util 0"]
    assert names("category=parsing&tag=odd") == ["util 3", "util 1"]
    assert names("kind=script") == ["script"]
    assert names("q=UTIL%203") == ["util 3"]
    assert names("q=100%25") == ["util 3"]
    assert names("q=e_t") == ["util 3"]
    assert names("q=%25zz") == []
    assert names("shared=true") == []
    for wrong in (
        "status=deleted", "kind=robot", "page=0", "page_size=201", "page=x", "cursor=%21%21",
        "cursor=bm9uc2Vuc2U", "sort=name", f"page=2&cursor={first['next_cursor']}", "shared=maybe",
    ):  # fmt: skip
        assert client.get(f"{UTILS}?{wrong}").status_code == 400, wrong


def test_other_path_answers_alike(client: FlaskClient, body: Body) -> None:
    made = client.post("/api/v1/utis", json=body())
    util = made.get_json()
    other = f"/api/v1/utis/{util['util_id']}"

    assert made.status_code == 201
    assert client.get(other).data == client.get(util["links"]["self"]).data
    assert client.get("/api/v1/utis").data == client.get(UTILS).data
    assert client.post(f"{other}/execute", json={"input": 1}).status_code == 202
    assert client.put(other, json={"description": "x"}).status_code == 200
    assert client.get("/api/v1/utis/runtime").status_code == 200
    assert client.delete(f"{other}/shares/{util['util_id']}").status_code == 404


def test_lost_acknowledgement_is_told_as_unknown_and_forgotten(
    client: FlaskClient,
    new_util: Callable[..., Any],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection dies under the COMMIT; what was said before is not taken for true."""
    util = new_util()
    assert client.post(util["links"]["execute"], json={"input": 1}).status_code == 202
    get = util_versions.get  # the last that is asked before the COMMIT

    def fatal(conn: Any, *args: Any, **more: Any) -> Any:
        found = get(conn, *args, **more)
        with psycopg.connect(database.superuser, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))
        return found

    monkeypatch.setattr(util_versions, "get", fatal)
    told = client.post(util["links"]["deactivate"])
    monkeypatch.undo()

    assert (told.status_code, told.get_json()["code"]) == (503, "change_unknown")
    assert told.get_json()["outcome"] == "unknown"
    assert int(told.headers["Retry-After"]) > 0
    assert client.get(util["links"]["self"]).get_json()["status"] == "active"  # it was not done
    assert client.post(util["links"]["deactivate"]).status_code == 200


def test_creation_is_counted_by_tenant_and_key(
    client: FlaskClient, make_app: Callable[..., Any], body: Body, tenant: Any
) -> None:
    registry: CollectorRegistry = metrics.REGISTRY

    def counted(user: str) -> float | None:
        labels = {"tenant_id": str(tenant.tenant_id), "user_id": user}
        return registry.get_sample_value("utils_created_total", labels)

    client.post(UTILS, json=body())
    client.post(UTILS, json=body(code=BAD))
    quiet = make_app(metrics_user_label=False).test_client()
    quiet.post(UTILS, json=body(), headers={"X-Auth-Token": tenant.token})

    assert counted(tenant.token[4:16]) == 1
    assert counted("") == 1


@pytest.mark.parametrize(
    "code",
    [
        "\ud800",
        "def transform(data): return data\0",
        "def transform(data):\n    return " + "(" * 5000,
        "x = " + "+".join(["1"] * 20_000),
        "def transform(data):\n\treturn data\n    # tabs",
        "# coding: utf-7\n+AGEAYg-",
        "\N{BYTE ORDER MARK}def transform(data):\n    return data\n",
    ],
    ids=["surrogate", "NUL", "brackets", "sum", "tabs", "coding", "mark"],
)
def test_odd_sources_are_taken_or_told(client: FlaskClient, body: Body, code: str) -> None:
    text = body(code=code)
    answered = client.post(UTILS, json=text)
    assert answered.status_code in {201, 422}, answered.text[:300]
    if answered.status_code == 422:
        assert re.match("/code", answered.get_json()["errors"][0]["pointer"])
