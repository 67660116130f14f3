"""What a run means for its request, whatever the run brought."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from csb_core.models import Failed, Retry, Succeeded
from csb_core.value_schema import compiled
from worker_sandbox.job import ExitReason, Fault, Run
from worker_sandbox.likeness import difference
from worker_sandbox.meter import Meter, status_of
from worker_sandbox.outcomes import ERRORS, outcome_of, unstorable

REASONS: tuple[ExitReason, ...] = get_args(ExitReason)


def run(reason: ExitReason = "ok", **more: Any) -> Run:
    return Run(exit_reason=reason, tier="namespaces", layers=("seccomp",), **more)


def test_a_value_is_a_success() -> None:
    outcome = outcome_of(run(value={"a": 1}, stdout="hi", wall_ms=1.234, memory_peak_kb=9), None)
    assert isinstance(outcome, Succeeded)
    assert outcome.changed is False
    assert outcome.result == {
        "value": {"a": 1},
        "stdout": "hi",
        "stderr": "",
        "exit_reason": "ok",
        "wall_ms": 1.23,
        "cpu_ms": 0.0,
        "memory_peak_kb": 9,
        "sandbox": {"tier": "namespaces", "layers": ["seccomp"]},
    }


@pytest.mark.parametrize("reason", [one for one in REASONS if one != "ok"])
def test_every_other_reason_has_its_class(reason: ExitReason) -> None:
    fault = Fault(type="ValueError", message="no", traceback=None)
    outcome = outcome_of(run(reason, error=fault), None)
    assert isinstance(outcome, Retry if reason == "internal" else Failed)
    assert (outcome.error_class, outcome.code) == ERRORS[reason]
    assert "no" in outcome.message
    if isinstance(outcome, Failed):
        assert outcome.result is not None
        assert outcome.result["exit_reason"] == reason
        assert outcome.result["value"] is None


def test_an_error_is_told_as_python_does() -> None:
    fault = Fault(type="KeyError", message="'a'", traceback="Traceback ...\nKeyError: 'a'\n")
    outcome = outcome_of(run("error", error=fault, stderr="before\n"), None)
    assert isinstance(outcome, Failed)
    assert outcome.message == "KeyError: 'a'"
    assert outcome.result is not None
    assert outcome.result["stderr"] == "before\nTraceback ...\nKeyError: 'a'\n"


def test_a_value_must_fit_the_output_schema() -> None:
    schema = compiled({"type": "object", "required": ["a"], "properties": {"a": {"minimum": 2}}})
    assert isinstance(outcome_of(run(value={"a": 2}), schema), Succeeded)
    outcome = outcome_of(run(value={"a": 1}), schema)
    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.code) == ("UTIL_OUTPUT", "OUTPUT_SCHEMA")
    assert "/a" in outcome.message
    assert outcome.result is not None
    assert outcome.result["value"] == {"a": 1}
    assert outcome.result["exit_reason"] == "output"
    assert status_of(run(value={"a": 1}), outcome) == "output_schema"


@pytest.mark.parametrize(
    "value", [{"a": ["\0"]}, {"\0": 1}, "\ud800", [2**64], [-(2**63) - 1], {"a": {"\udfff": 1}}]
)
def test_what_cannot_be_stored_is_no_value(value: Any) -> None:
    assert unstorable(value) is not None
    outcome = outcome_of(run(value=value), None)
    assert isinstance(outcome, Failed)
    assert outcome.code == "value_unstorable"
    assert outcome.result is not None
    assert outcome.result["value"] is None
    assert outcome.result["exit_reason"] == "output"


@pytest.mark.parametrize("value", [None, True, 0, 2**64 - 1, 1.5, "ü", [], {"a": [{}]}])
def test_every_other_value_can_be_stored(value: Any) -> None:
    assert unstorable(value) is None


def test_prints_that_cannot_be_stored_are_mended() -> None:
    outcome = outcome_of(run(stdout="a\0b", stderr="c\ud800d"), None)
    assert isinstance(outcome, Succeeded)
    assert outcome.result["stdout"] == "a�b"
    assert outcome.result["stderr"] == "c?d"


@pytest.mark.parametrize(
    ("expected", "actual", "pointer"),
    [
        (1, 1.0, None),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, None),
        (True, 1, ""),
        (0, False, ""),
        (None, 0, ""),
        ([1, 2], [1], ""),
        ([1, {"a/b": 1}], [1, {"a/b": 2}], "/1/a~1b"),
        ({"a": 1}, {}, "/a"),
        ({}, {"a": 1}, "/a"),
        ({"a": [1], "b": 2}, {"a": [3], "b": 4}, "/a/0"),
        ("é", "e\u0301", ""),
        ([], {}, ""),
    ],
)
def test_the_first_difference(expected: Any, actual: Any, pointer: str | None) -> None:
    told = difference(expected, actual)
    assert (told and told["pointer"]) == pointer


def test_a_difference_is_short() -> None:
    told = difference("a" * 10_000, "b" * 10_000)
    assert told is not None
    assert len(str(told)) < 2000


def test_metrics_name_only_so_many_utils() -> None:
    meter = Meter(most_series=2)
    assert [meter._labels("t", name) for name in ("a", "b", "c", "a")] == [
        ("t", "a"),
        ("t", "b"),
        ("other", "other"),
        ("t", "a"),
    ]
