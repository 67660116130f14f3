"""What every workflow keeps to; zizmor and actionlint look deeper (`make check-pipelines`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from images.build import IMAGES
from tests.house import ROOT, make_targets, text

FOLDER = ROOT / ".github/workflows"
FILES = sorted(FOLDER.glob("*.yml"))

#: The longest that anything may run, in minutes, where that is more than 45.
PATIENCE = {"weekly": 180, "cluster": 60}


def load(path: Path) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(text(path))
    return document


def triggers(path: Path) -> dict[str, Any]:
    """`on:`, which YAML 1.1 reads as the word true."""
    found: dict[str, Any] = load(path)[True]
    return found


def steps(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in load(path)["jobs"].items():
        for step in job.get("steps", ()):
            yield name, step


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_they_are_all_there() -> None:
    assert {path.name for path in FILES} >= {
        *("ci.yml", "release.yml", "deploy.yml", "_build-image.yml", "_deploy.yml")
    }


def test_every_action_is_pinned_to_a_commit(file: Path) -> None:
    uses = re.findall(r"^\s*-?\s*uses: *(.+)$", text(file), re.MULTILINE)
    assert uses
    for line in uses:
        local = re.fullmatch(r"\./\.github/workflows/([\w-]+\.yml)", line)
        if local:
            assert (FOLDER / local[1]).is_file()
            assert "workflow_call" in triggers(FOLDER / local[1])
        else:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_pin() -> None:
    pins: dict[str, set[str]] = {}
    for path in FILES:
        for name, pin in re.findall(r"uses: ([\w./-]+)@(\S+ # \S+)", text(path)):
            pins.setdefault(name, set()).add(pin)
    assert not {name: found for name, found in pins.items() if len(found) > 1}


def test_nothing_is_permitted_but_to_a_job_that_names_it(file: Path) -> None:
    document = load(file)
    assert document["permissions"] == {}
    for name, job in document["jobs"].items():
        granted = job.get("permissions", {})
        assert isinstance(granted, dict), f"{name}: name each permission"
        writes = {scope for scope, level in granted.items() if level == "write"}
        assert writes <= {"packages", "id-token", "attestations"}, name
        assert granted.get("contents", "read") == "read", name


def test_nothing_of_a_stranger_runs_with_our_rights(file: Path) -> None:
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers(file))
    assert not re.search(r"secrets:\s*inherit", text(file))
    if "pull_request" in triggers(file):
        used = set(re.findall(r"secrets\.(\w+)", text(file)))
        assert not used, "a proposal's run knows no secret"
        for job in load(file)["jobs"].values():
            assert "write" not in job.get("permissions", {}).values()


def test_no_expression_becomes_a_command(file: Path) -> None:
    for name, step in steps(file):
        assert "${{" not in step.get("run", ""), f"{name}: hand it over by env"


def test_everything_ends(file: Path) -> None:
    for name, job in load(file)["jobs"].items():
        if "uses" in job:
            continue  # what is called has its own
        assert 0 < job["timeout-minutes"] <= PATIENCE.get(name, 45), name
        assert job["runs-on"] in {"ubuntu-24.04", "${{ matrix.runner }}"}, name


def test_no_credential_is_left_behind_by_a_checkout(file: Path) -> None:
    for name, step in steps(file):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


def test_what_runs_is_there(file: Path) -> None:
    commands = "\n".join(step.get("run", "") for _, step in steps(file))
    for script in re.findall(r"(?<![\w/])((?:\.github|images)/[\w-]+\.sh)", commands):
        assert (ROOT / script).is_file(), script
        assert (ROOT / script).stat().st_mode & 0o111, script
    called = re.findall(r"\bmake((?: [a-z][a-z-]*)+)", commands)
    assert {target for line in called for target in line.split()} <= make_targets()
    for one in load(file)["jobs"].values():
        targets = one.get("strategy", {}).get("matrix", {}).get("target", [])
        assert set(targets) <= make_targets()


def test_a_release_builds_every_image_and_a_deployment_verifies_each() -> None:
    matrix = load(FOLDER / "release.yml")["jobs"]["image"]["strategy"]["matrix"]["include"]
    assert {one["image"]: one["dockerfile"] for one in matrix} == dict(IMAGES)
    verified = re.search(r"for image in ([\w -]+); do", text(FOLDER / "_deploy.yml"))
    assert verified is not None
    assert set(verified[1].split()) == set(IMAGES)


def test_nothing_is_deployed_before_it_is_verified() -> None:
    document = load(FOLDER / "_deploy.yml")["jobs"]
    assert document["deploy"]["needs"] == "verify"
    assert document["deploy"]["environment"] == "${{ inputs.environment }}"
    assert document["deploy"]["concurrency"]["cancel-in-progress"] is False
    check = next(s["run"] for n, s in steps(FOLDER / "_deploy.yml") if n == "verify" and "run" in s)
    assert "cosign verify" in check
    assert "gh attestation verify" in check
    program = ".github/deploy.sh"
    [runs_it] = [n for n, s in steps(FOLDER / "_deploy.yml") if program in s.get("run", "")]
    assert runs_it == "deploy"
    assert "helm upgrade" not in text(FOLDER / "_deploy.yml")
    _, upgrade = text(ROOT / program).split("helm upgrade ")
    assert "--rollback-on-failure" in upgrade.partition("if !")[0]


def test_no_credential_of_a_cluster_is_kept() -> None:
    known = {name for path in FILES for name in re.findall(r"secrets\.(\w+)", text(path))}
    assert not [name for name in known if re.search(r"KUBE|AWS_(ACCESS|SECRET)|PAT$|TOKEN", name)]


def test_dependencies_of_every_kind_are_watched() -> None:
    updates = yaml.safe_load(text(ROOT / ".github/dependabot.yml"))["updates"]
    kinds = {one["package-ecosystem"]: one for one in updates}
    assert set(kinds) == {"github-actions", "docker", "docker-compose", "pip"}
    assert all(one["cooldown"]["default-days"] >= 7 for one in updates)
    watched = {ROOT / folder.strip("/") for folder in kinds["pip"]["directories"]}
    locks = {path.parent for path in ROOT.glob("*/requirements*.txt")}
    assert locks - {ROOT / "bench", ROOT / "tests"} <= watched
