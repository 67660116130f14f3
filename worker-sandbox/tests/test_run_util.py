"""The actions, in a real jail, on rows that were really claimed."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from csb_core import metrics
from csb_core.contract import load
from csb_core.errors import LeaseLost
from csb_core.local import examples
from csb_core.models import Failed, Json, Lease, Outcome, Succeeded, UtilLimits
from csb_core.queue import connect
from csb_core.testing import ROOT
from worker_sandbox.catalogue import build_actions
from worker_sandbox.code_cache import CodeCache
from worker_sandbox.keeper import Keeper

ECHO = "def transform(data):\n    return data\n"


class Ours:
    """The worker's side of an attempt whose lease stays good."""

    def require_lease(self) -> None:
        pass

    def checkpoint(self, state: Json) -> None:
        raise AssertionError(state)


@pytest.fixture
def codes(tenant: Any, redis_url: str) -> CodeCache:
    return CodeCache(
        pool=tenant.sandbox,
        redis=connect(redis_url, timeout=timedelta(seconds=1)),
        most_bytes=1_000_000,
        ttl=timedelta(minutes=1),
        has_room=lambda: True,
    )


@pytest.fixture
def act(keeper: Keeper, codes: CodeCache) -> Any:
    actions = build_actions(keeper, codes)

    def acted(lease: Lease) -> Outcome:
        return actions[lease.action](lease, Ours())

    return acted


def test_every_action_of_the_contract_is_there(keeper: Keeper, codes: CodeCache) -> None:
    wanted = {action for provider, action in load().actions if provider == "sandbox"}
    assert build_actions(keeper, codes).keys() == wanted


def test_a_transformer(tenant: Any, act: Any) -> None:
    outcome = act(tenant.leased(tenant.util(ECHO), {"a": [1, "ü", None]}))
    assert isinstance(outcome, Succeeded)
    assert outcome.changed is False
    result = outcome.result
    assert result["value"] == {"a": [1, "ü", None]}
    assert result["exit_reason"] == "ok"
    assert result["wall_ms"] > 0
    assert result["memory_peak_kb"] > 1000
    assert result["sandbox"]["tier"] in {"namespaces", "landlock"}
    assert "seccomp" in result["sandbox"]["layers"]


def test_a_script_prints_and_has_a_place_to_write(tenant: Any, act: Any) -> None:
    code = """
import sys
def main(params):
    with open("note", "w") as note:
        note.write(params["text"])
    print("written")
    print("so far", file=sys.stderr)
    return open("note").read()
"""
    outcome = act(tenant.leased(tenant.util(code, kind="script"), {"text": "hallo"}))
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.result["value"] == "hallo"
    assert outcome.result["stdout"] == "written\n"
    assert outcome.result["stderr"] == "so far\n"


@pytest.mark.parametrize(
    ("code", "error_class", "message"),
    [
        ("def transform(data):\n    return data['b']\n", "UTIL_ERROR", "KeyError: 'b'"),
        ("def transform(data)\n    return 1\n", "UTIL_ERROR", "SyntaxError"),
        ("x = 1\n", "UTIL_ERROR", "transform"),
        ("def transform(data):\n    while True: pass\n", "UTIL_TIMEOUT", ""),
        ("def transform(data):\n    return bytearray(10**10)\n", "UTIL_MEMORY", ""),
        ("def transform(data):\n    return 'x' * 3_000_000\n", "UTIL_OUTPUT", ""),
        ("def transform(data):\n    return object()\n", "UTIL_ERROR", ""),
        ("import os\ndef transform(data):\n    os._exit(3)\n", "UTIL_ERROR", "exit code 3"),
        ("import os\ndef transform(data):\n    os.kill(1, 9)\n", "UTIL_ERROR", ""),
    ],
)
def test_failures_are_told_apart(
    tenant: Any, act: Any, code: str, error_class: str, message: str
) -> None:
    limits = UtilLimits(timeout_seconds=1, memory_limit_mb=64, cpu_limit=1.0)
    outcome = act(tenant.leased(tenant.util(code), {"a": 1}, limits=limits))
    assert isinstance(outcome, Failed)
    assert outcome.error_class == error_class
    assert message in outcome.message
    assert outcome.result is not None
    assert outcome.result["value"] is None
    assert str(ROOT) not in str(outcome)


def test_the_traceback_is_the_authors_own(tenant: Any, act: Any) -> None:
    code = "def helper(n):\n    return 1 / n\n\ndef transform(data):\n    return helper(0)\n"
    outcome = act(tenant.leased(tenant.util(code)))
    assert isinstance(outcome, Failed)
    assert outcome.message == "ZeroDivisionError: division by zero"
    assert outcome.result is not None
    assert "line 2, in helper" in outcome.result["stderr"]
    assert "worker_sandbox" not in outcome.result["stderr"]


def test_the_output_schema_holds(tenant: Any, act: Any) -> None:
    schema = {"type": "object", "required": ["score"]}
    util = tenant.util(ECHO, parameters={"output_schema": schema})
    assert isinstance(act(tenant.leased(util, {"score": 1})), Succeeded)
    outcome = act(tenant.leased(util, {"a": 1}))
    assert isinstance(outcome, Failed)
    assert outcome.code == "OUTPUT_SCHEMA"
    assert outcome.result is not None
    assert outcome.result["value"] == {"a": 1}


def test_a_pattern_of_a_tenant_does_not_hang_the_worker(tenant: Any, act: Any) -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    util = tenant.util(ECHO, parameters={"output_schema": schema})
    began = time.monotonic()
    outcome = act(tenant.leased(util, "a" * 100_000 + "!"))
    assert time.monotonic() - began < 3
    assert isinstance(outcome, Failed)
    assert outcome.code == "OUTPUT_SCHEMA"


def test_a_run_is_never_longer_than_the_operator_says(
    tenant: Any, keeper: Keeper, codes: CodeCache
) -> None:
    action: Any = build_actions(keeper, codes)["run_util"]
    action = replace(action, longest=timedelta(seconds=0.3))
    limits = UtilLimits(timeout_seconds=60, memory_limit_mb=64, cpu_limit=1.0)
    util = tenant.util("import time\ndef transform(data):\n    time.sleep(30)\n")
    began = time.monotonic()
    outcome = action(tenant.leased(util, limits=limits), Ours())
    assert time.monotonic() - began < 5
    assert isinstance(outcome, Failed)
    assert outcome.error_class == "UTIL_TIMEOUT"


def test_it_runs_what_was_pinned_whatever_became_of_the_util(tenant: Any, act: Any) -> None:
    util = tenant.util("def transform(data):\n    return 'old'\n")
    lease = tenant.leased(util)
    with tenant.api.connection() as conn, conn.transaction():
        conn.execute("SELECT set_config('csb.tenant_id', %s, true)", (str(tenant.tenant_id),))
        conn.execute("UPDATE csb_app.csb_utils SET status = 'inactive' WHERE util_id = %s", (util,))
    outcome = act(lease)
    assert isinstance(outcome, Succeeded)
    assert outcome.result["value"] == "old"


def test_what_is_counted_and_said(tenant: Any, act: Any, caplog: pytest.LogCaptureFixture) -> None:
    util = tenant.util(ECHO)
    with caplog.at_level(logging.INFO):
        act(tenant.leased(util, 1))
        act(tenant.leased(util, 2))
    names = (str(tenant.tenant_id), str(util))
    assert metrics.UTILS_EXECUTED.labels(*names, "success")._value.get() == 2
    assert metrics.EXECUTION_SECONDS.labels(*names)._sum.get() > 0
    assert metrics.ACTIVE_CONTAINERS._value.get() == 0
    lines = [record for record in caplog.records if record.message == "util.executed"]
    assert len(lines) == 2
    line = vars(lines[0])
    assert line["util_id"] == str(util)
    assert line["user_id"] == "testkey00000"
    assert line["execution_time_ms"] > 0
    assert line["memory_used_mb"] > 1
    assert line["execution_id"]
    assert line["container_id"] != vars(lines[1])["container_id"]


CASES = [
    {"name": "same", "input": 1, "expected": 1},
    {"name": "other", "input": {"a": [1, 2]}, "expected": {"a": [1, 3]}},
    {"name": "raises", "input": "boom", "expected": "boom"},
]
TESTED = """
def transform(data):
    if data == "boom":
        raise ValueError(data)
    return data
"""


def test_test_cases_are_told_one_by_one(tenant: Any, act: Any) -> None:
    util = tenant.util(TESTED, test_cases=CASES)
    outcome = act(tenant.leased(util, action="test_util"))
    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("UTIL_ERROR", "tests_failed")
    assert outcome.message == "2 of 3 test cases failed: other, raises"
    assert outcome.result is not None
    assert (outcome.result["passed"], outcome.result["failed"]) == (1, 2)
    same, other, raises = outcome.result["cases"]
    assert same == {"name": "same", "passed": True, "exit_reason": "ok"}
    assert other["difference"] == {
        "pointer": "/a/1",
        "reason": "it is another value",
        "expected": 3,
        "actual": 2,
    }
    assert (raises["exit_reason"], raises["error"]) == ("error", "ValueError: boom")


def test_all_green_is_a_success(tenant: Any, act: Any) -> None:
    outcome = act(tenant.leased(tenant.util(TESTED, test_cases=CASES[:1]), action="test_util"))
    assert isinstance(outcome, Succeeded)
    assert (outcome.result["passed"], outcome.result["failed"]) == (1, 0)


def test_each_case_has_a_jail_of_its_own(tenant: Any, act: Any) -> None:
    code = """
import os
seen = []
def main(params):
    seen.append(params)
    kept = os.path.exists("left")
    open("left", "w").close()
    return [len(seen), kept]
"""
    cases = [{"name": str(n), "input": n, "expected": [1, False]} for n in range(3)]
    util = tenant.util(code, kind="script", test_cases=cases)
    assert isinstance(act(tenant.leased(util, action="test_util")), Succeeded)


def test_cases_must_fit_the_output_schema_too(tenant: Any, act: Any) -> None:
    schema = {"type": "integer"}
    cases = [{"name": "text", "input": "a", "expected": "a"}]
    util = tenant.util(ECHO, parameters={"output_schema": schema}, test_cases=cases)
    outcome = act(tenant.leased(util, action="test_util"))
    assert isinstance(outcome, Failed)
    assert outcome.result is not None
    (case,) = outcome.result["cases"]
    assert (case["passed"], case["exit_reason"]) == (False, "output")
    assert "output_schema" in case["error"]


def test_cases_that_take_too_long_together_are_not_all_run(
    tenant: Any, keeper: Keeper, codes: CodeCache
) -> None:
    action: Any = build_actions(keeper, codes)["test_util"]
    action = replace(action, deadline=timedelta(seconds=2))
    code = "import time\ndef transform(data):\n    time.sleep(0.5)\n"
    cases = [{"name": str(n), "input": n, "expected": None} for n in range(4)]
    limits = UtilLimits(timeout_seconds=1, memory_limit_mb=64, cpu_limit=1.0)
    lease = tenant.leased(tenant.util(code, test_cases=cases), action="test_util", limits=limits)
    outcome = action(lease, Ours())
    assert isinstance(outcome, Failed)
    assert outcome.result is not None
    assert 0 < outcome.result["passed"] < 4
    last = outcome.result["cases"][-1]
    assert (last["passed"], last["exit_reason"]) == (False, None)
    assert "too long" in last["error"]


def test_a_lost_lease_ends_the_tests(tenant: Any, keeper: Keeper, codes: CodeCache) -> None:
    class Lost(Ours):
        def require_lease(self) -> None:
            raise LeaseLost("gone")

    util = tenant.util(TESTED, test_cases=CASES)
    action = build_actions(keeper, codes)["test_util"]
    with pytest.raises(LeaseLost):
        action(tenant.leased(util, action="test_util"), Lost())
    with pytest.raises(LeaseLost):
        build_actions(keeper, codes)["run_util"](tenant.leased(tenant.util(ECHO)), Lost())


@pytest.mark.parametrize("body", examples.read(ROOT), ids=lambda body: str(body["name"]))
def test_the_examples_pass_their_own_cases_in_the_jail(tenant: Any, act: Any, body: Json) -> None:
    config = body["execution_config"]
    util = tenant.util(
        body["code"],
        kind=body["kind"],
        parameters=body["parameters"],
        execution_config=config,
        test_cases=body["test_cases"],
    )
    outcome = act(tenant.leased(util, action="test_util", limits=UtilLimits(**config)))
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.result["passed"] == len(body["test_cases"])
