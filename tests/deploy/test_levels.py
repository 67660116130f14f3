"""Each namespace claims a level of Pod Security, and every pod that is put there keeps to it.

Kubernetes' own evaluator judges, in the wording of each version that is supported: `latest` in the
labels of a namespace means the version of the cluster.
"""

from __future__ import annotations

import json
import subprocess
from typing import Final

import pytest
import yaml
from tests.deploy.charts import KUBERNETES, WAYS, Manifest, of_kind, pods, rendered, run
from tests.deploy.test_platform import OVERLAYS, built
from tests.house import ROOT

#: The evaluator that is built in is of 1.36; what 1.37 added is judged when it is raised.
WORDINGS: Final = KUBERNETES[: KUBERNETES.index("1.36") + 1]
LEVEL: Final = "pod-security.kubernetes.io/enforce"
APP: Final = "csb-app"


def levels(overlay: str) -> dict[str, str]:
    """The level that each namespace enforces."""
    logging = run("kustomize", "build", str(ROOT / "platform-config/logging"))
    manifests = (*built(overlay), *yaml.safe_load_all(logging))
    return {
        namespace["metadata"]["name"]: namespace["metadata"]["labels"][LEVEL]
        for namespace in of_kind(manifests, "Namespace")
    }


def forbidden(found: dict[str, Manifest], level: str, kubernetes: str) -> dict[str, str]:
    """Those of these pods that the level forbids, and why."""
    pods = [
        {"metadata": {"name": "x", **pod.get("metadata", {})}, "spec": pod["spec"]}
        for pod in found.values()
    ]
    command = ["pss", "-level", level, "-version", f"v{kubernetes}"]
    done = subprocess.run(
        command, input=json.dumps(pods), capture_output=True, text=True, check=True
    )
    return {name: why for name, why in zip(found, json.loads(done.stdout), strict=True) if why}


@pytest.mark.parametrize("kubernetes", WORDINGS)
@pytest.mark.parametrize("way", WAYS)
def test_every_pod_keeps_to_the_level_of_its_namespace(way: str, kubernetes: str) -> None:
    preset, values = WAYS[way]
    claimed = levels("production")
    assert claimed[APP] == "restricted"
    manifests = rendered(preset=preset, values=values, kubernetes=kubernetes)
    for namespace in {m["metadata"].get("namespace", APP) for m in manifests}:
        placed = tuple(m for m in manifests if m["metadata"].get("namespace", APP) == namespace)
        assert forbidden(dict(pods(placed)), claimed[namespace], kubernetes) == {}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_claims_the_same(overlay: str) -> None:
    assert levels(overlay) == levels("production")


def test_a_level_is_no_higher_than_it_must_be() -> None:
    """Only the collector needs more than "restricted": what it mounts of its node."""
    preset, values = WAYS["everything"]
    manifests = rendered(preset=preset, values=values)
    collector = {name: pod for name, pod in pods(manifests) if name.startswith("DaemonSet/")}
    for level in ("restricted", "baseline"):
        (why,) = forbidden(collector, level, "1.34").values()
        assert "hostPath" in why
