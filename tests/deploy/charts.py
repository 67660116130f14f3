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
KUBERNETES: Final = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
SUBCHARTS: Final = ("api-service", "worker", "postgres-db", "redis", "observability")

#: What a preset leaves to whoever installs it.
SITE: Final[Mapping[str, tuple[str, ...]]] = {
    "dev": (),
    "small": (),
    "ha": ("global.redis.egressTo[0].ipBlock.cidr=10.20.0.0/24",),
}

#: What observability cannot know.
LOGS: Final = (
    "elasticsearch.url=https://logs.example.org",
    "elasticsearch.to[0].ipBlock.cidr=10.30.0.0/24",
    "kibana.url=https://kibana.example.org",
    "kibana.to[0].ipBlock.cidr=10.30.0.0/24",
)
EXTERNAL: Final = (
    "global.postgres.mode=external",
    "global.postgres.egressTo[0].ipBlock.cidr=10.20.0.0/24",
    "global.redis.mode=external",
    "global.redis.egressTo[0].ipBlock.cidr=10.20.0.0/24",
    "migrations.bootstrap.host=postgres.example.org",
    "migrations.mode=hook",
)
#: Ways of installing that together render every template: a preset, and what is set beside it.
WAYS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    **{preset: (preset, ()) for preset in PRESETS},
    "external": ("small", (*EXTERNAL, "api-service.ingress.enabled=true")),
    "canary": (
        "small",
        (
            "api-service.httpRoute.enabled=true",
            "api-service.rollout.strategy=canary",
            "api-service.image.tag=0.1.0",
            "api-service.rollout.next.tag=9.9.9",
            "worker.workers.aws.image.tag=0.1.0",
            "worker.workers.aws.next.tag=9.9.9",
        ),
    ),
    "blue-green": (
        "small",
        (
            "api-service.rollout.strategy=blue-green",
            "api-service.image.tag=0.1.0",
            "api-service.rollout.next.tag=9.9.9",
        ),
    ),
    "stronger-sandbox": ("ha", ("worker.workers.sandbox.jails.tier=namespaces",)),
    "everything": (
        "ha",
        (
            "console.enabled=true",
            "backup.enabled=true",
            "postgres-db.cnpg.backup.enabled=true",
            "postgres-db.cnpg.backup.destinationPath=s3://backups/csb",
            "externalSecrets.enabled=true",
            "externalSecrets.store.name=vault",
            "global.monitoring.enabled=true",
            "observability.enabled=true",
            "observability.collector.enabled=true",
            *(f"observability.{value}" for value in LOGS),
        ),
    ),
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
def told(
    chart: str = "csecbridge",
    *,
    preset: str | None = None,
    values: tuple[str, ...] = (),
    json_values: tuple[str, ...] = (),
    kubernetes: str = "1.34",
    release: str = "csecbridge",
) -> str:
    """What `helm template` writes for a chart, hooks included."""
    command = ["helm", "template", release, str(HELM / chart), "--namespace", "csb-app"]
    command += ["--kube-version", f"{kubernetes}.0"]
    if preset is not None:
        command += ["--values", str(HELM / "csecbridge" / "presets" / f"{preset}.yaml")]
        values = (*SITE[preset], *values)
    command += [part for value in values for part in ("--set", value)]
    command += [part for value in json_values for part in ("--set-json", value)]
    return run(*command)


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
    said = told(
        chart,
        preset=preset,
        values=values,
        json_values=json_values,
        kubernetes=kubernetes,
        release=release,
    )
    return tuple(m for m in yaml.load_all(said, Loader=yaml.CSafeLoader) if m)


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
