"""A version with test cases runs only once they have passed, in the sandbox."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient

from csb_core.states import Status

CASES = [{"name": "same", "input": 1, "expected": 1}]
SECOND = "def transform(data):\n    return [data]\n"


def test_version_with_cases_is_tested_before_it_runs(
    client: FlaskClient, new_util: Callable[..., Any], run: Callable[..., None]
) -> None:
    util = new_util(test_cases=CASES)
    here = util["links"]["self"]
    assert (util["status"], util["active_version"]) == ("inactive", None)
    assert client.post(f"{here}/execute", json={"input": 1}).status_code == 409
    assert client.put(here, json={"status": "active"}).status_code == 409

    testing = client.post(f"{here}/activate")
    again = client.post(f"{here}/activate")
    assert (testing.status_code, again.status_code) == (202, 202)
    test = testing.get_json()
    assert (test["action"], test["version"], test["status"]) == ("test_util", 1, "PENDING")
    assert again.get_json()["execution_id"] == test["execution_id"]
    assert testing.headers["Location"] == test["links"]["self"]

    run(test["execution_id"], status=Status.FAILED)
    refused = client.post(f"{here}/activate?wait=0.3")
    assert refused.status_code == 202  # another test, as the first one failed
    threading.Timer(0.5, run, (refused.get_json()["execution_id"],)).start()
    active = client.post(f"{here}/activate?wait=20")

    assert active.status_code == 200, active.text
    assert (active.get_json()["status"], active.get_json()["active_version"]) == ("active", 1)
    assert client.post(f"{here}/execute", json={"input": 1}).status_code == 202
    tests = client.get(f"{here}/executions?action=test_util").get_json()["items"]
    assert [item["status"] for item in tests] == ["SUCCESS", "FAILED"]
    assert len(client.get(f"{here}/executions").get_json()["items"]) == 1
    assert client.get(f"{here}/executions?action=burn").status_code == 400


def test_failed_test_is_told_with_where_to_look(
    client: FlaskClient, new_util: Callable[..., Any], run: Callable[..., None]
) -> None:
    here = new_util(test_cases=CASES)["links"]["self"]
    test = client.post(f"{here}/activate").get_json()["execution_id"]
    threading.Timer(0.5, run, (test, None, Status.FAILED)).start()

    refused = client.post(f"{here}/activate?wait=20")

    assert (refused.status_code, refused.get_json()["code"]) == (409, "tests_not_passed")
    assert test in refused.get_json()["detail"]
    assert client.get(here).get_json()["status"] == "inactive"


def test_active_util_stays_with_its_version_until_the_next_one_has_passed(
    client: FlaskClient, new_util: Callable[..., Any], run: Callable[..., None]
) -> None:
    here = new_util()["links"]["self"]
    changed = client.put(here, json={"code": SECOND, "test_cases": CASES}).get_json()
    assert (changed["version"], changed["active_version"]) == (2, 1)
    assert client.post(f"{here}/execute", json={"input": 1}).get_json()["version"] == 1
    untested = client.post(f"{here}/execute", json={"input": 1, "version": 2})
    assert (untested.status_code, untested.get_json()["code"]) == (409, "util_not_active")

    run(client.post(f"{here}/activate").get_json()["execution_id"])
    assert client.post(f"{here}/activate").get_json()["active_version"] == 2
    assert client.post(f"{here}/execute", json={"input": 1}).get_json()["version"] == 2
    back = client.post(f"{here}/activate?version=1").get_json()
    assert (back["version"], back["active_version"]) == (2, 1)
    assert client.post(f"{here}/execute", json={"input": 1}).get_json()["version"] == 1
    assert client.post(f"{here}/activate?version=7").status_code == 404
    assert client.post(f"{here}/activate?version=0").status_code == 400
    assert client.put(here, json={"status": "active"}).get_json()["active_version"] == 2


def test_status_is_changed_with_the_rest_or_not_at_all(
    client: FlaskClient, new_util: Callable[..., Any]
) -> None:
    here = new_util(status="inactive")["links"]["self"]

    active = client.put(here, json={"status": "active", "description": "Runs."})
    assert (active.get_json()["status"], active.get_json()["description"]) == ("active", "Runs.")
    idle = client.put(here, json={"status": "active"})
    assert idle.get_json()["revision"] == active.get_json()["revision"]
    inactive = client.put(here, json={"status": "inactive"})
    assert inactive.get_json()["status"] == "inactive"

    untested = {"test_cases": CASES, "status": "active", "description": "Not yet."}
    assert client.put(here, json=untested).status_code == 409
    assert client.get(here).get_json()["description"] == "Runs."


def test_testing_asks_for_the_scope_to_execute(
    key_of: Callable[..., FlaskClient], tenant: Any, new_util: Callable[..., Any]
) -> None:
    here = new_util(test_cases=CASES)["links"]["self"]
    refused = key_of(tenant, "utils:write").post(f"{here}/activate")
    assert refused.status_code == 403
    assert "utils:execute" in refused.get_json()["detail"]
    both = key_of(tenant, "utils:write", "utils:execute")
    assert both.post(f"{here}/activate").status_code == 202
