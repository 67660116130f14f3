"""Whose util it is: strangers see nothing of it, and shares let in whom they name, for what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

UTILS = "/api/v1/utils"
REQUESTS = "/api/v1/requests"


@pytest.fixture
def stranger(new_tenant: Callable[..., Any]) -> Any:
    """Another tenant."""
    return new_tenant()


def statuses(client: FlaskClient, util: Any) -> dict[str, int]:
    """What each route of a util answers this client."""
    here = f"{UTILS}/{util['util_id']}"
    parameters = {"util_id": util["util_id"], "input": 1}
    request = {"cloud_provider": "sandbox", "action": "run_util", "parameters": parameters}
    test = {"util_id": util["util_id"], "version": 1}
    calls = {
        "show": client.get(here),
        "show again": client.get(here, headers={"If-None-Match": '"1"'}),
        "versions": client.get(f"{here}/versions"),
        "version": client.get(f"{here}/versions/1"),
        "diff": client.get(f"{here}/diff"),
        "executions": client.get(f"{here}/executions"),
        "shares": client.get(f"{here}/shares"),
        "execute": client.post(f"{here}/execute", json={"input": 1}),
        "request": client.post(REQUESTS, json=request),
        "test": client.post(REQUESTS, json={**request, "action": "test_util", "parameters": test}),
        "describe": client.put(here, json={"description": "Mine now."}),
        "code": client.put(here, json={"code": "def transform(data):\n    return 1\n"}),
        "rollback": client.post(f"{here}/rollback", json={"version": 1}),
        "deactivate": client.post(f"{here}/deactivate"),
        "activate": client.post(f"{here}/activate"),
        "share": client.post(f"{here}/shares", json={"key_id": "a" * 12, "permission": "edit"}),
        "unshare": client.delete(f"{here}/shares/{util['util_id']}"),
        "delete": client.delete(here),
    }
    return {name: answered.status_code for name, answered in calls.items()}


READ = {"show", "versions", "version", "diff", "executions", "shares"}
RUN = {"execute", "request", "test"}
EDIT = {"describe", "code", "rollback", "deactivate", "activate"}


def expected(allowed: set[str], otherwise: int = 403) -> dict[str, int]:
    answers = dict.fromkeys(READ | RUN | EDIT | {"share", "unshare", "delete"}, otherwise)
    answers |= dict.fromkeys(allowed, 200) | dict.fromkeys(allowed & RUN, 202)
    return {**answers, "show again": 304 if "show" in allowed else otherwise}


def test_strangers_see_nothing_of_a_util(
    client: FlaskClient,
    client_of: Callable[..., FlaskClient],
    new_util: Callable[..., Any],
    stranger: Any,
) -> None:
    util, other = new_util(), client_of(stranger)
    nothing = dict.fromkeys(expected(set()), 404)

    assert statuses(other, util) == nothing
    client.get(util["links"]["self"])
    for _ in range(2):  # now it is cached
        assert client.post(util["links"]["execute"], json={"input": 1}).status_code == 202
    assert statuses(other, util) == nothing
    assert other.get(UTILS).get_json()["total"] == 0
    assert client.get(util["links"]["self"]).get_json() == util


@pytest.mark.parametrize("to", ["tenant", "key"])
@pytest.mark.parametrize(
    ("permission", "allowed"),
    [("read", READ), ("execute", READ | RUN), ("edit", READ | RUN | EDIT)],
)
def test_share_lets_in_whom_it_names_for_what_it_says(
    client: FlaskClient,
    client_of: Callable[..., FlaskClient],
    key_of: Callable[..., FlaskClient],
    new_util: Callable[..., Any],
    stranger: Any,
    to: str,
    permission: str,
    allowed: set[str],
) -> None:
    util, other = new_util(), client_of(stranger)
    shares = util["links"]["shares"]
    grantee = (
        {"tenant_id": str(stranger.tenant_id)}
        if to == "tenant"
        else {"key_id": stranger.token[4:16]}
    )
    assert other.post(util["links"]["execute"], json={"input": 1}).status_code == 404

    shared = client.post(shares, json={**grantee, "permission": permission})
    assert shared.status_code == 201
    assert statuses(other, util) == expected(allowed)

    sibling = key_of(stranger)  # another key of the same tenant
    seen = {"tenant": 200, "key": 404}[to]
    assert sibling.get(util["links"]["self"]).status_code == seen
    assert other.get(f"{UTILS}?shared=true").get_json()["total"] == 1
    assert client.delete(util["links"]["self"]).status_code == 409

    share_id = shared.get_json()["share_id"]
    assert client.delete(f"{shares}/{share_id}").get_json()["status"] == "revoked"
    assert set(statuses(other, util).values()) == {404}
    assert client.delete(f"{shares}/{share_id}").status_code == 404


def test_shared_util_runs_as_the_callers_tenant(
    client: FlaskClient,
    client_of: Callable[..., FlaskClient],
    new_util: Callable[..., Any],
    stranger: Any,
    run: Callable[..., None],
) -> None:
    util, other = new_util(), client_of(stranger)
    grantee = {"tenant_id": str(stranger.tenant_id), "permission": "execute"}
    client.post(util["links"]["shares"], json=grantee)

    made = other.post(util["links"]["execute"], json={"input": 1})
    assert made.status_code == 202
    run(made.get_json()["execution_id"], 1)

    assert other.get(made.headers["Location"]).get_json()["result"]["value"] == 1
    assert client.get(made.headers["Location"]).status_code == 404
    assert len(other.get(util["links"]["executions"]).get_json()["items"]) == 1
    assert client.get(util["links"]["executions"]).get_json()["items"] == []


def test_share_names_one_grantee_that_there_is(
    client: FlaskClient, new_util: Callable[..., Any], tenant: Any, stranger: Any
) -> None:
    shares = new_util()["links"]["shares"]
    one, key = {"tenant_id": str(stranger.tenant_id)}, {"key_id": stranger.token[4:16]}

    def status(**body: Any) -> int:
        return client.post(shares, json={"permission": "read", **body}).status_code

    assert status(**one, **key) == 422
    assert status() == 422
    assert status(**one, permission="own") == 422
    assert status(tenant_id="01a20335-867c-74b7-9425-e55595a1e70a") == 404
    assert status(key_id="nobodynobody") == 404
    assert status(tenant_id=str(tenant.tenant_id)) == 409
    assert status(**one) == status(**one, permission="edit") == 201
    [share] = client.get(shares).get_json()["items"]
    assert (share["tenant_id"], share["permission"]) == (one["tenant_id"], "edit")
