"""What a tenant asks of its utils: its own rules, its least score; and what the runtime is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import psycopg
import redis
from flask.testing import FlaskClient

from csb_core import keys
from csb_core.testing import Database

UTILS = "/api/v1/utils"
RULE = {"kind": "forbid_call", "pattern": "print", "severity": "error", "message": "No prints."}
PRINTS = "def transform(data):\n    print(data)\n    return data\n"
IMPORTS = "import tablib\n\n\ndef transform(data):\n    return tablib.Dataset(data)\n"


def test_own_rules_hold_for_their_tenant(
    client: FlaskClient,
    client_of: Callable[..., FlaskClient],
    new_tenant: Callable[..., Any],
    body: Callable[..., Any],
) -> None:
    made = client.put(f"{UTILS}/rules/no-print", json=RULE)
    again = client.put(f"{UTILS}/rules/no-print", json=RULE)
    assert (made.status_code, again.status_code) == (201, 200)
    [rule] = client.get(f"{UTILS}/rules").get_json()["items"]
    assert {name: rule[name] for name in RULE} == RULE

    refused = client.post(UTILS, json=body(code=PRINTS))
    assert refused.status_code == 422
    [error] = [e for e in refused.get_json()["errors"] if e["severity"] == "error"]
    assert (error["rule"], error["line"]) == ("OWN-no-print", 2)
    assert "No prints." in error["message"]
    other = client_of(new_tenant())
    assert other.post(UTILS, json=body(code=PRINTS)).status_code == 201
    assert other.get(f"{UTILS}/rules").get_json()["items"] == []
    assert other.delete(f"{UTILS}/rules/no-print").status_code == 404

    assert client.delete(f"{UTILS}/rules/no-print").status_code == 200
    assert client.post(UTILS, json=body(code=PRINTS)).status_code == 201
    assert client.delete(f"{UTILS}/rules/no-print").status_code == 404


def test_rules_are_for_administrators(
    client: FlaskClient, key_of: Callable[..., FlaskClient], tenant: Any
) -> None:
    author = key_of(tenant, "utils:read", "utils:write", "utils:execute")

    assert author.put(f"{UTILS}/rules/mine", json=RULE).status_code == 403
    assert author.delete(f"{UTILS}/rules/mine").status_code == 403
    assert author.get(f"{UTILS}/rules").status_code == 200
    assert client.put(f"{UTILS}/rules/9", json=RULE).status_code == 400
    assert client.delete(f"{UTILS}/rules/x%00").status_code == 404
    assert client.put(f"{UTILS}/rules/x", json={**RULE, "kind": "burn"}).status_code == 422
    lines = client.put(f"{UTILS}/rules/x", json={**RULE, "kind": "max_lines", "pattern": "ten"})
    assert [e["pointer"] for e in lines.get_json()["errors"]] == ["/pattern"]


def test_no_rule_is_reported_under_the_name_of_another(client: FlaskClient) -> None:
    """Or one that only informs would take the place of one that refuses."""
    assert client.put(f"{UTILS}/rules/x", json=RULE).status_code == 201
    clash = client.put(f"{UTILS}/rules/OWN-x", json={**RULE, "severity": "info"})
    assert (clash.status_code, clash.get_json()["code"]) == (409, "conflict")
    assert client.put(f"{UTILS}/rules/x", json=RULE).status_code == 200
    assert client.put(f"{UTILS}/rules/FUN001", json={**RULE, "severity": "info"}).status_code == 201

    told = client.post(
        f"{UTILS}/validate",
        json={"kind": "transformer", "code": PRINTS.replace("data)\n", "eval)\n", 1)},
    )
    assert {f["rule"]: f["severity"] for f in told.get_json()["validation_errors"]}.items() >= {
        ("OWN-x", "error"), ("OWN-FUN001", "info"),
    }  # fmt: skip


def test_tenant_has_its_least_score(
    client: FlaskClient, body: Callable[..., Any], database: Database, tenant: Any
) -> None:
    with psycopg.connect(database.superuser) as conn:
        conn.execute(
            "UPDATE csb_app.csb_tenants SET util_min_security_score = 100 WHERE tenant_id = %s",
            (tenant.tenant_id,),
        )
    refused = client.post(UTILS, json=body(description=""))

    assert refused.status_code == 422
    assert any("100" in e["message"] for e in refused.get_json()["errors"])


def test_runtime_tells_what_a_worker_told(
    client: FlaskClient, body: Callable[..., Any], redis_url: str
) -> None:
    unseen = client.get(f"{UTILS}/runtime").get_json()
    assert (unseen["worker"], unseen["python"], unseen["packages"]) == ("not seen", None, None)
    assert unseen["limits"]["defaults"]["memory_limit_mb"] == 128
    assert unseen["limits"]["ceilings"]["timeout_seconds"] == 300
    assert unseen["validation"] == "enforce"
    declared = body(code=IMPORTS, parameters={"dependencies": ["tablib"]})
    unknown = client.post(UTILS, json=declared)
    assert unknown.status_code == 422
    assert "no worker tells at present whether the sandbox holds tablib" in unknown.text

    told = {
        "python": "3.11.2",
        "packages": {"tablib": {"version": "3.8.0", "modules": ["tablib"]}},
        "tier": "namespaces",
        "layers": ["user", "mount"],
        "self_test": {"held": True},
        "limits": {},
    }
    with redis.Redis.from_url(redis_url) as store:
        store.set(keys.sandbox_runtime(), orjson.dumps(told))
    seen = client.get(f"{UTILS}/runtime").get_json()

    assert seen["worker"] == "seen"
    assert (seen["python"], seen["tier"], seen["layers"]) == (
        "3.11.2", "namespaces", ["user", "mount"],
    )  # fmt: skip
    assert seen["packages"] == {"tablib": "3.8.0"}
    other = body(code=IMPORTS.replace("tablib", "numpy"), parameters={"dependencies": ["numpy"]})
    assert "the sandbox does not hold numpy" in client.post(UTILS, json=other).text
    assert client.post(UTILS, json=declared).status_code == 201
    assert client.post(UTILS, json=body(code=IMPORTS)).status_code == 422  # it declares nothing
    with redis.Redis.from_url(redis_url) as store:
        store.set(keys.sandbox_runtime(), b'["no", "runtime"]')
    assert client.get(f"{UTILS}/runtime").get_json()["worker"] == "not seen"
