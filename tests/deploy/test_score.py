"""kube-score finds nothing to add to what the charts render, but for what is named here."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

import pytest
import yaml
from tests.deploy.charts import WAYS, Manifest, of_kind, rendered

API: Final = "csecbridge-api-service"
#: What is not asked of any manifest, and why. Nor is a limit of CPU: it would throttle what the
#: node has free, while requests share it out.
NOT_ASKED: Final[Mapping[str, str]] = {
    "container-image-pull-policy": "a tag is a version, and production pins digests",
    "container-ephemeral-storage-request-and-limit": (
        "roots are read-only and every emptyDir has a sizeLimit: test_pods.py"
    ),
    "container-security-context-user-group-id": "the users of the official images have low numbers",
    "deployment-has-host-podantiaffinity": "topologySpreadConstraints do it, by zone as well",
    "statefulset-has-host-podantiaffinity": "the embedded stores are one pod each",
    "pod-probes-identical": "a store that answers nobody serves nobody: one question for both",
    "deployment-replicas": "`dev` runs one of each; `ha` and the budgets are held in test_pods.py",
}
#: What it finds and is right: whose, which, and why.
RIGHT: Final[Mapping[tuple[str, str], str]] = {
    ("csecbridge-restore", "cronjob-has-deadline"): "it is suspended: a person starts it",
    ("csecbridge-postgres-db", "networkpolicy-targets-pod"): "CloudNativePG makes the pods",
    ("csecbridge-postgres-db-pooler", "networkpolicy-targets-pod"): "CloudNativePG makes the pods",
}
#: Its grades: 1 critical, 5 warning, 7 almost, 10 as it should be.
GOOD: Final = 7


def found(manifests: tuple[Manifest, ...]) -> set[tuple[str, str]]:
    """Each fault that kube-score finds: whose, and which."""
    command = ["kube-score", "score", "--kubernetes-version", "v1.34", "--output-format", "json"]
    command += ["--ignore-container-cpu-limit"]
    command += [part for name in NOT_ASKED for part in ("--ignore-test", name)]
    said = yaml.safe_dump_all(manifests)
    done = subprocess.run([*command, "-"], input=said, capture_output=True, text=True, check=False)
    scored: list[dict[str, Any]] = json.loads(done.stdout)
    assert scored, done.stderr
    return {
        (it["object_meta"]["name"], check["check"]["id"])
        for it in scored
        for check in it["checks"]
        if not check["skipped"] and check["grade"] < GOOD
    }


@pytest.mark.parametrize("way", WAYS)
def test_there_is_nothing_to_add(way: str) -> None:
    preset, values = WAYS[way]
    assert found(rendered(preset=preset, values=values)) - RIGHT.keys() == set()


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("template.spec.containers.0.resources.limits", "container-resources"),
        ("template.spec.containers.0.readinessProbe", "pod-probes"),
        (
            "template.spec.containers.0.securityContext.readOnlyRootFilesystem",
            "container-security-context-readonlyrootfilesystem",
        ),
        ("template.metadata.labels.app\\.kubernetes\\.io/component", "pod-networkpolicy"),
    ],
)
def test_what_is_missing_is_found(path: str, fault: str) -> None:
    manifests = deepcopy(rendered(preset="small"))
    (api,) = (m for m in of_kind(manifests, "Deployment") if m["metadata"]["name"] == API)
    *names, last = (name.replace("\\", "") for name in re.split(r"(?<!\\)\.", path))
    target = api["spec"]
    for name in names:
        target = target[int(name)] if name.isdigit() else target[name]
    del target[last]
    assert (API, fault) in found(manifests)
