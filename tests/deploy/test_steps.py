"""The steps of a rollout as the pipeline takes them: each from what the one before has left."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.deploy.charts import Manifest, of_kind, pods, rendered
from tests.house import ROOT, text

OLD, NEW, OTHER = (f"sha256:{digit * 64}" for digit in "abc")
VERSIONS: Final = {OLD: "1.2.2", NEW: "1.2.3", OTHER: "1.2.4"}
SERVICE: Final = "csecbridge-api-service"
ROUTE: Final = ("api-service.httpRoute.enabled=true", "api-service.httpRoute.parentRefs[0].name=x")

Values = dict[str, Any]


class Refused(Exception):
    """The step was refused; the text is the reason."""


def step(now: Values | None, name: str, digest: str = NEW, **options: object) -> Values:
    """Take one step; raises Refused with what it said."""
    command = [sys.executable, str(ROOT / ".github/rollout_values.py"), name]
    command += [VERSIONS[digest], digest]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(
        command, input=json.dumps(now), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Refused(done.stderr)
    found: Values = json.loads(done.stdout)
    return found


def after(*steps: tuple[str, str] | str, strategy: str = "blue-green", weight: int = 10) -> Values:
    """Return what these steps leave, one after the other."""
    now: Values | None = None
    for each in steps:
        name, digest = (each, NEW) if isinstance(each, str) else each
        now = step(now, name, digest, strategy=strategy, weight=weight)
    assert now is not None
    return now


def shown(values: Values) -> tuple[Manifest, ...]:
    """Render the chart as the pipeline does: the new version's digests, then the step's values."""
    of_api = values["api-service"]
    json_values = tuple(f"api-service.{key}={json.dumps(it)}" for key, it in of_api.items())
    pinned = f"global.digests.api-service={NEW}"
    return rendered(preset="small", values=(*ROUTE, pinned), json_values=json_values)


def answering(values: Values) -> dict[str, int]:
    """Of a hundred calls to the route, how many each digest answers."""
    manifests = shown(values)
    of_service = {
        service["metadata"]["name"]: service["spec"]["selector"]
        for service in of_kind(manifests, "Service")
    }
    (route,) = of_kind(manifests, "HTTPRoute")
    found: dict[str, int] = {}
    for backend in route["spec"]["rules"][0]["backendRefs"]:
        selector = of_service[backend["name"]]
        (digest,) = {
            pod["spec"]["containers"][0]["image"].partition("@")[2]
            for name, pod in pods(manifests)
            if name.startswith("Deployment/")
            and selector.items() <= pod["metadata"]["labels"].items()
        }
        if backend.get("weight", 100):
            found[digest] = found.get(digest, 0) + backend.get("weight", 100)
    return found


FIRST: Final = ("rolling", OLD)


@pytest.mark.parametrize(
    ("strategy", "steps", "answers"),
    [
        ("blue-green", (FIRST,), {OLD: 100}),
        ("blue-green", (FIRST, "rolling"), {NEW: 100}),
        ("blue-green", (FIRST, "beside"), {OLD: 100}),
        ("blue-green", (FIRST, "beside", "abort"), {OLD: 100}),
        ("blue-green", (FIRST, "beside", "promote"), {NEW: 100}),
        ("blue-green", (FIRST, "beside", "promote", "abort"), {OLD: 100}),
        ("blue-green", (FIRST, "beside", "promote", "settle"), {NEW: 100}),
        ("blue-green", (FIRST, "beside", "promote", "settle", "clear"), {NEW: 100}),
        ("canary", (FIRST, "beside"), {OLD: 100}),
        ("canary", (FIRST, "beside", "share"), {OLD: 90, NEW: 10}),
        ("canary", (FIRST, "beside", "share", "abort"), {OLD: 100}),
        ("canary", (FIRST, "beside", "share", "promote"), {NEW: 100}),
        ("canary", (FIRST, "beside", "share", "promote", "settle"), {NEW: 100}),
        ("canary", (FIRST, "beside", "share", "promote", "settle", "clear"), {NEW: 100}),
    ],
    ids=str,
)
def test_callers_reach_what_the_steps_say(
    strategy: str, steps: tuple[tuple[str, str] | str, ...], answers: dict[str, int]
) -> None:
    assert answering(after(*steps, strategy=strategy)) == answers


@pytest.mark.parametrize("strategy", ["blue-green", "canary"])
def test_a_settled_version_is_where_the_old_one_was(strategy: str) -> None:
    steps = (FIRST, "beside", "promote", "settle", "clear")
    assert after(*steps, strategy=strategy) == after("rolling")
    deployments = {
        m["metadata"]["name"]
        for m in of_kind(shown(after(*steps, strategy=strategy)), "Deployment")
    }
    assert f"{SERVICE}-next" not in deployments


@pytest.mark.parametrize(
    ("before", "then", "said"),
    [
        ((), "beside", "deploy once with the step rolling"),
        (("rolling",), "beside", "1.2.3 is what serves"),
        ((FIRST,), "promote", "1.2.3 does not stand beside; nothing does"),
        ((FIRST, "beside"), "rolling", "1.2.3 stands beside: settle or abort it first"),
        ((FIRST, "beside"), "settle", "promote it first"),
        ((FIRST, "beside"), "clear", "1.2.3 is not settled"),
        ((FIRST, "beside"), "share", "blue-green is promoted whole"),
        ((FIRST, "beside"), ("promote", OTHER), "1.2.4 does not stand beside; 1.2.3 does"),
        ((FIRST, "beside", "promote"), ("beside", OTHER), "callers are led to 1.2.3"),
    ],
    ids=str,
)
def test_a_step_that_does_not_follow_is_refused(
    before: tuple[tuple[str, str] | str, ...], then: tuple[str, str] | str, said: str
) -> None:
    now = after(*before) if before else None
    name, digest = (then, NEW) if isinstance(then, str) else then
    with pytest.raises(Refused, match=said):
        step(now, name, digest)


def test_a_version_that_nobody_is_led_to_may_be_replaced() -> None:
    now = after(FIRST, "beside", ("beside", OTHER))
    assert now["api-service"]["rollout"]["next"]["digest"] == OTHER


HELM: Final = """#!/usr/bin/env bash
# Stands for Helm and its cluster: keeps what it was told, and has what it is given.
printf '%s\\n' "$*" >>"$STATE/calls"
case $1 in
    list) [ -e "$STATE/now.json" ] && echo '[{}]' || echo '[]' ;;
    get) cat "$STATE/now.json" ;;
    upgrade)
        while [ $# -gt 0 ]; do
            case $1 in *rollout.json) cp "$1" "$STATE/now.json" ;; esac
            shift
        done ;;
    test) [ ! -e "$STATE/silent" ] ;;
esac
"""


def deployed(state: Path, name: str, digest: str = NEW, **more: str) -> tuple[int, list[str]]:
    """Run the pipeline's script over a stand-in of Helm; return its status and Helm's calls."""
    helm = state / "helm"
    helm.write_text(HELM, encoding="utf-8")
    helm.chmod(helm.stat().st_mode | stat.S_IXUSR)
    (state / "calls").unlink(missing_ok=True)
    environ = {
        "PATH": f"{state}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "STATE": str(state),
        "STEP": name,
        "STRATEGY": "canary",
        "WEIGHT": "10",
        "VERSION": VERSIONS[digest],
        "NAMESPACE": "csb-app",
        "REGISTRY": "ghcr.io/x",
        "CHART": "ghcr.io/x/charts@sha256:0",
        "DIGESTS": f"api-service={digest} csbctl={OTHER}",
        "VALUES": "api-service: {replicas: 3}",
        **more,
    }
    done = subprocess.run(
        [str(ROOT / ".github/deploy.sh")], env=environ, capture_output=True, text=True, check=False
    )
    calls = state / "calls"
    return done.returncode, text(calls).splitlines() if calls.exists() else []


def verbs(calls: list[str]) -> list[str]:
    """What Helm was told to do, without what it was asked."""
    found = [call.split()[0] for call in calls]
    return [verb for verb in found if verb not in {"list", "get"}]


def test_the_pipeline_takes_every_step_and_settles_in_two(tmp_path: Path) -> None:
    for name, digest, wanted in (
        ("rolling", OLD, ["upgrade", "test"]),
        ("beside", NEW, ["upgrade", "test"]),
        ("share", NEW, ["upgrade", "test"]),
        ("promote", NEW, ["upgrade", "test"]),
        ("settle", NEW, ["upgrade", "test", "upgrade", "test"]),
    ):
        status, calls = deployed(tmp_path, name, digest)
        assert (status, verbs(calls)) == (0, wanted), name
    assert json.loads(text(tmp_path / "now.json")) == after("rolling")
    (call, _) = (call for call in calls if call.startswith("upgrade"))
    assert "--rollback-on-failure" in call
    assert f"--set-string=global.digests.csbctl={OTHER}" in call
    # The step's values stand after those of the environment, so they win.
    assert call.index("values.yaml") < call.index("rollout.json")


def test_what_does_not_answer_is_taken_back(tmp_path: Path) -> None:
    deployed(tmp_path, "rolling", OLD)
    (tmp_path / "silent").touch()
    status, calls = deployed(tmp_path, "beside")
    assert status == 1
    assert verbs(calls) == ["upgrade", "test", "rollback"]


def test_a_first_release_that_does_not_answer_stays_to_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "silent").touch()
    status, calls = deployed(tmp_path, "rolling")
    assert status == 1
    assert verbs(calls) == ["upgrade", "test"]


def test_a_refused_step_changes_nothing(tmp_path: Path) -> None:
    deployed(tmp_path, "rolling", OLD)
    status, calls = deployed(tmp_path, "promote")
    assert status == 1
    assert verbs(calls) == []


def test_the_pipeline_asks_for_external_secrets_where_a_store_is_named(tmp_path: Path) -> None:
    status, calls = deployed(tmp_path, "rolling", SECRET_STORE="vault")
    assert status == 0
    assert "externalSecrets.store.name=vault" in " ".join(calls)
    status, calls = deployed(tmp_path, "rolling", SECRET_STORE="vault", SECRETS="github")
    assert (status, calls) == (1, [])


def test_the_workflow_offers_the_steps_that_there_are() -> None:
    workflow = yaml.safe_load(text(ROOT / ".github/workflows/deploy.yml"))
    inputs = workflow[True]["workflow_dispatch"]["inputs"]
    for name in inputs["step"]["options"]:
        if name != "rolling":
            # Refused for what is there, not because the program does not know it.
            with pytest.raises(Refused, match=f"::error::{name}: "):
                step(None, name)
    assert set(inputs["strategy"]["options"]) == {"blue-green", "canary"}
