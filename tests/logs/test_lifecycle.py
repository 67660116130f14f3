"""Elasticsearch's own code reads the lifecycle policy: the engine here lacks the endpoint."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.logs.engine import SHIPPED, TOOLS

READER: Final = Path(__file__).with_name("Lifecycle.java")


def _judged(policy: Any) -> str:
    """Why Elasticsearch refuses it; empty when it takes it."""
    home = Path((TOOLS / "java").read_text().strip())
    jars = f"{TOOLS}/elasticsearch/lib/*:{TOOLS}/elasticsearch/modules/x-pack-core/*"
    done = subprocess.run(
        [home / "bin/java", "-cp", jars, READER],
        input=json.dumps(policy),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.stderr if done.returncode else ""


def _policy() -> Any:
    return json.loads((SHIPPED / "policy.json").read_text())


def test_the_policy_is_taken() -> None:
    assert _judged(_policy()) == ""


def _unknown_action(phases: Any) -> None:
    phases["warm"]["actions"]["forcemerged"] = {}


def _rollover_in_warm(phases: Any) -> None:
    phases["warm"]["actions"]["rollover"] = phases["hot"]["actions"]["rollover"]


def _no_age(phases: Any) -> None:
    phases["delete"]["min_age"] = "30 days"


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (_unknown_action, "forcemerged"),
        (_rollover_in_warm, "rollover"),
        (_no_age, "30 days"),
    ],
)
def test_the_reader_refuses_what_elasticsearch_does(
    breaks: Callable[[Any], None], said: str
) -> None:
    policy = _policy()
    breaks(policy["policy"]["phases"])
    assert said in _judged(policy)
