"""Charts as Helm renders them, and overlays as Kustomize builds them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import yaml
from tests.house import ROOT

HELM: Final = ROOT / "helm"
PRESETS: Final = ("dev", "small", "ha")
KUBERNETES: Final = ("1.30", "1.34", "1.37")
SUBCHARTS: Final = ("api-service", "worker", "postgres-db", "redis")

#: What a preset leaves to whoever installs it.
SITE: Final[Mapping[str, tuple[str, ...]]] = {
    "dev": (),
    "small": (),
    "ha": ("global.redis.egressTo[0].ipBlock.cidr=10.20.0.0/24",),
}

Manifest = dict[str, Any]


class NotRendered(Exception):
    """Helm refused; the text is what it said."""


def run(*command: str) -> str:
    """Run a tool; raises NotRendered with what it said when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotRendered(done.stderr)
    return done.stdout


@cache
def rendered(
    chart: str = "csecbridge",
    *,
    preset: str | None = None,
    values: tuple[str, ...] = (),
    json_values: tuple[str, ...] = (),
    kubernetes: str = "1.34",
    release: str = "csecbridge",
) -> tuple[Manifest, ...]:
    """Every manifest of a chart, hooks included."""
    command = ["helm", "template", release, str(HELM / chart), "--namespace", "csb-app"]
    command += ["--kube-version", f"{kubernetes}.0"]
    if preset is not None:
        command += ["--values", str(HELM / "csecbridge" / "presets" / f"{preset}.yaml")]
        values = (*SITE[preset], *values)
    command += [part for value in values for part in ("--set", value)]
    command += [part for value in json_values for part in ("--set-json", value)]
    return tuple(m for m in yaml.safe_load_all(run(*command)) if m)


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    """Only those of these kinds."""
    return [m for m in manifests if m["kind"] in kinds]


def named(manifest: Manifest) -> str:
    """What a manifest is called in messages."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Every pod that these manifests bring about: its owner's name, and its template."""
    for manifest in manifests:
        spec = manifest.get("spec") or {}
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if manifest["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}:
            yield named(manifest), spec["template"]
        elif manifest["kind"] == "Pod":
            yield named(manifest), manifest


def containers(pod: Manifest) -> list[Manifest]:
    """All containers of a pod, those of its start as well."""
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
