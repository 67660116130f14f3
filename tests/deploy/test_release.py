"""What the pipelines package, deploy and make fits what the charts are."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.deploy.charts import PRESETS, NotRendered, containers, pods, rendered, run
from tests.house import ROOT, text

MAKE_SECRETS = ROOT / ".github/make-secrets.sh"


def _read_secrets(preset: str = "dev") -> dict[str, set[str]]:
    """Return each Secret that some pod reads variables of, with these."""
    found: dict[str, set[str]] = {}
    for _, pod in pods(rendered(preset=preset)):
        for container in containers(pod):
            for variable in container.get("env", []):
                of = variable.get("valueFrom", {}).get("secretKeyRef")
                if of:
                    found.setdefault(of["name"], set()).add(of["key"])
    return found


KUBECTL: Final = """#!/usr/bin/env bash
# Stands for kubectl: keeps the lines of each Secret, and everything that it was told by arguments.
printf '%s\\n' "$*" >>"$STATE/arguments"
case $1 in create) cat >"$STATE/secret-$4" ;; apply) cat ;; esac
"""
URLS: Final = ("API", "AWS", "SANDBOX", "ADMIN", "MIGRATOR")


def _made_by_the_pipeline(state: Path, **secrets: str) -> dict[str, dict[str, str]]:
    """Run the pipeline's script; return each Secret that it makes, with what is in it."""
    kubectl = state / "kubectl"
    kubectl.write_text(KUBECTL, encoding="utf-8")
    kubectl.chmod(0o755)
    environ = {"PATH": f"{state}:{os.environ['PATH']}", "STATE": str(state), "NAMESPACE": "x"}
    run("env", *(f"{k}={v}" for k, v in {**environ, **secrets}.items()), str(MAKE_SECRETS))
    return {
        path.name.removeprefix("secret-"): dict(
            line.split("=", 1) for line in text(path).splitlines()
        )
        for path in state.glob("secret-*")
    }


def test_the_pipelines_secrets_are_those_that_pods_read(tmp_path: Path) -> None:
    secrets = {f"{name}_DATABASE_URL": f"postgresql://{name}:hidden@x/csb" for name in URLS}
    secrets |= {"REDIS_URL": "redis://:hidden=@x/0", "BACKUP_PASSWORD": "hidden"}
    made = _made_by_the_pipeline(tmp_path, **secrets)
    read = _read_secrets("small")
    # The others are of stores in the cluster, which a pipeline's environment has not.
    assert set(made) == set(read) - {"csb-postgres", "csb-redis"}
    for name in made:
        assert read[name] <= set(made[name]), name
    assert made["csb-api-service"] == {
        "CSB_DATABASE_URL": secrets["API_DATABASE_URL"],
        "CSB_REDIS_URL": secrets["REDIS_URL"],
    }
    assert made["csb-backup"] == {"username": "csb_backup_user", "password": "hidden"}
    assert "hidden" not in text(tmp_path / "arguments"), "arguments are seen by every process"


def test_a_secret_that_lacks_its_url_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotRendered):
        _made_by_the_pipeline(tmp_path, API_DATABASE_URL="", REDIS_URL="redis://x")
    assert not list(tmp_path.glob("secret-*"))


def test_the_quick_starts_secrets_are_all_that_pods_read() -> None:
    said = run("python3", str(ROOT / "helm/make_secrets.py"), "--release", "other")
    made = {m["metadata"]["name"]: set(m["stringData"]) for m in yaml.safe_load(said)["items"]}
    assert "other-postgres-db:5432" in said
    assert "@other-redis:6379" in said
    for name, keys in _read_secrets().items():
        assert keys <= made[name], name


def test_a_packaged_chart_is_the_chart(tmp_path: Path) -> None:
    """As the release does it: links become folders, and nothing is fetched."""
    copy = tmp_path / "helm"
    shutil.copytree(ROOT / "helm", copy, symlinks=True)
    chart = str(copy / "csecbridge")
    run("helm", "dependency", "build", chart)
    run("helm", "package", chart, "--version", "9.9.9", "--destination", str(tmp_path))
    preset = str(copy / "csecbridge/presets/dev.yaml")
    packaged = run(
        *("helm", "template", "csecbridge", str(tmp_path / "csecbridge-9.9.9.tgz")),
        *("--namespace", "csb-app", "--kube-version", "1.34.0", "--values", preset),
    )
    unpacked = rendered(preset="dev")
    manifests = [m for m in yaml.safe_load_all(packaged) if m]
    assert len(manifests) == len(unpacked)
    assert {m["kind"] for m in manifests} == {m["kind"] for m in unpacked}


def test_presets_are_documented() -> None:
    page = text(ROOT / "docs/install.md")
    for preset in PRESETS:
        assert f"`{preset}`" in page


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: _over(below[name], above[name])
        for name in below.keys() & above.keys()
        if isinstance(below[name], dict)
    }
    return {**below, **above, **both}


def test_values_that_the_page_names_exist() -> None:
    values = yaml.safe_load(text(ROOT / "helm/csecbridge/values.yaml"))
    worker = yaml.safe_load(text(ROOT / "helm/worker/values.yaml"))
    worker["workers"]["aws"] = _over(worker["defaults"], worker["workers"]["aws"])
    page = text(ROOT / "docs/install.md")
    named = re.findall(r"`((?:global|migrations|smoke|console|worker)\.[A-Za-z.]+)", page)
    assert len(named) > 12
    for name in named:
        place: Any = {**values, "worker": worker}
        for part in name.split("."):
            assert part in place, f"docs/install.md names {name}"
            place = place[part]
