"""The platform's namespace: strict by default, and with room for what the charts bring."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import yaml
from tests.deploy import schemas
from tests.deploy.charts import (
    HELM,
    KUBERNETES,
    Manifest,
    containers,
    named,
    of_kind,
    pods,
    rendered,
    run,
)
from tests.house import ROOT, text

OVERLAYS: Final = ("dev", "staging", "production")
ARCHIVED: Final = (
    "postgres-db.cnpg.backup.enabled=true",
    "postgres-db.cnpg.backup.destinationPath=s3://archive/csb",
)
#: Kind -> what the API calls its resource, for the deployer's rights.
RESOURCES: Final = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}


@cache
def built(overlay: str) -> tuple[Manifest, ...]:
    """The manifests of an overlay."""
    made = run("kustomize", "build", str(ROOT / "platform-config/overlays" / overlay))
    return tuple(yaml.safe_load_all(made))


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid(overlay: str, kubernetes: str) -> None:
    manifests = built(overlay)
    assert len(manifests) >= 9
    for manifest in manifests:
        schemas.check(manifest, kubernetes)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_is_restricted_and_shut(overlay: str) -> None:
    (namespace,) = of_kind(built(overlay), "Namespace")
    levels = namespace["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert levels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
    (policy,) = of_kind(built(overlay), "NetworkPolicy")
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_what_concerns_admission_lies_outside_the_namespace(overlay: str) -> None:
    outside = {m["kind"] for m in built(overlay) if m["metadata"].get("namespace") != "csb-app"}
    assert outside == {
        "Namespace",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    assert not of_kind(built(overlay), "ClusterRole", "ClusterRoleBinding")


def test_the_deployer_may_what_a_release_needs_and_no_more() -> None:
    (role,) = of_kind(built("production"), "Role")
    writes = {
        (group, resource)
        for rule in role["rules"]
        if "create" in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    routes = (
        "api-service.ingress.enabled=true",
        "api-service.httpRoute.enabled=true",
        "externalSecrets.enabled=true",
        "externalSecrets.store.name=vault",
    )
    everything = [
        *rendered(preset="small", values=routes),
        *rendered(preset="ha", values=ARCHIVED),
    ]
    needed = {
        (
            m["apiVersion"].rpartition("/")[0],
            RESOURCES.get(m["kind"], m["kind"].lower() + "s"),
        )
        for m in everything
    }
    assert writes == needed | {("", "secrets")}, "Helm's releases are Secrets"
    assert "*" not in str(role)
    assert not {"escalate", "bind", "impersonate"} & {v for r in role["rules"] for v in r["verbs"]}


def _millicores(quantity: str | int) -> int:
    said = str(quantity)
    return int(said[:-1]) if said.endswith("m") else int(float(said) * 1000)


def _mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024, "Ti": 1024**2}[quantity[-2:]]


def _volumes(manifests: tuple[Manifest, ...]) -> list[int]:
    """Return what each volume asks for; a backup's and a restore's scratch volumes among them."""
    asked = [m["spec"] for m in of_kind(manifests, "PersistentVolumeClaim")]
    for manifest in of_kind(manifests, "StatefulSet"):
        asked += [c["spec"] for c in manifest["spec"]["volumeClaimTemplates"]]
    for _, pod in pods(manifests):
        own = [v["ephemeral"] for v in pod["spec"].get("volumes", []) if "ephemeral" in v]
        asked += [volume["volumeClaimTemplate"]["spec"] for volume in own]
    sizes = [spec["resources"]["requests"]["storage"] for spec in asked]
    for cluster in of_kind(manifests, "Cluster"):
        # One more: the operator makes an instance anew beside the volume of the broken one.
        kinds = [cluster["spec"][kind]["size"] for kind in ("storage", "walStorage")]
        sizes += kinds * (cluster["spec"]["instances"] + 1)
    return [_mebibytes(size) for size in sizes]


def _most(manifests: tuple[Manifest, ...]) -> dict[str, int]:
    """Return what all pods that there can be ask for; one more of each during a rollout."""
    scaled = {
        m["spec"]["scaleTargetRef"]["name"]: m["spec"].get("maxReplicas")
        or m["spec"]["maxReplicaCount"]
        for m in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject")
    }
    sizes = {named(m): m["spec"].get("replicas") for m in manifests if m["kind"] == "Deployment"}
    total = {"pods": 0, "requests.cpu": 0, "requests.memory": 0, "limits.memory": 0}
    for name, pod in pods(manifests):
        kind, _, own = name.partition("/")
        count = (scaled.get(own) or sizes[name]) + 1 if kind == "Deployment" else 1
        main = pod["spec"]["containers"]
        assert len(main) == 1
        asked = main[0]["resources"]
        total["pods"] += count
        total["requests.cpu"] += count * _millicores(asked["requests"]["cpu"])
        total["requests.memory"] += count * _mebibytes(asked["requests"]["memory"])
        total["limits.memory"] += count * _mebibytes(asked["limits"]["memory"])
    for cluster in of_kind(manifests, "Cluster"):
        count, asked = cluster["spec"]["instances"], cluster["spec"]["resources"]
        total["pods"] += count
        total["requests.cpu"] += count * _millicores(asked["requests"]["cpu"])
        total["requests.memory"] += count * _mebibytes(asked["requests"]["memory"])
        total["limits.memory"] += count * _mebibytes(asked["limits"]["memory"])
    return total


#: What a rollout asks for on top of the preset `small`, one pod of each at a time.
SURGE: Final = 3 * 250 + 50
#: What the workflow installs into a cluster of one node of four cores, whose own pods ask for one.
TRIED: Final = re.findall(r"--set (\S+[a-z]=\S+)", text(ROOT / ".github/try-cluster.sh"))


@pytest.mark.parametrize(
    ("overlay", "preset", "values"),
    [
        ("dev", "dev", ()),
        ("staging", "small", ()),
        ("production", "ha", ()),
        ("dev", "small", tuple(value for value in TRIED if "$" not in value)),
    ],
)
def test_the_quota_has_room_for_the_preset(
    overlay: str, preset: str, values: tuple[str, ...]
) -> None:
    (quota,) = of_kind(built(overlay), "ResourceQuota")
    hard = quota["spec"]["hard"]
    manifests = rendered(preset=preset, values=values)
    most, volumes = _most(manifests), _volumes(manifests)
    assert len(volumes) <= int(hard["persistentvolumeclaims"])
    assert sum(volumes) <= _mebibytes(hard["requests.storage"])
    assert most["pods"] <= int(hard["pods"])
    assert most["requests.cpu"] <= _millicores(hard["requests.cpu"])
    assert most["requests.memory"] <= _mebibytes(hard["requests.memory"])
    assert most["limits.memory"] <= _mebibytes(hard["limits.memory"])
    if values:
        assert most["requests.cpu"] <= 3000 + SURGE, "a runner has four cores, one of them taken"


def test_images_of_the_charts_come_from_registries_that_are_admitted() -> None:
    (policy,) = of_kind(built("dev"), "ValidatingAdmissionPolicy")
    expressions = {v["name"]: v["expression"] for v in policy["spec"]["variables"]}
    admitted = tuple(part.strip(" '[]") for part in expressions["registries"].split(","))
    for _, pod in pods(rendered(preset="dev")):
        for container in containers(pod):
            assert container["image"].startswith(admitted)


def test_production_wants_digests() -> None:
    said = str(of_kind(built("production"), "ValidatingAdmissionPolicy"))
    assert "@sha256:" in said
    assert "@sha256:" in str(of_kind(built("staging"), "ValidatingAdmissionPolicy"))
    assert "@sha256:" not in str(of_kind(built("dev"), "ValidatingAdmissionPolicy"))


def test_production_as_the_page_has_it_is_admitted(tmp_path: Path) -> None:
    page = text(ROOT / "docs/install.md").partition("## Production")[2]
    (tmp_path / "yours.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    chart, preset = HELM / "csecbridge", HELM / "csecbridge/presets/ha.yaml"
    said = run("helm", "template", "csecbridge", str(chart), "--namespace", "csb-app",
               *("--values", str(preset), "--values", str(tmp_path / "yours.yaml")))  # fmt: skip
    manifests = tuple(m for m in yaml.load_all(said, Loader=yaml.CSafeLoader) if m)
    for manifest in manifests:
        schemas.check(manifest, KUBERNETES[-1])
    images = {c["image"] for _, pod in pods(manifests) for c in containers(pod)}
    assert len(images) == 5
    assert {image for image in images if "@sha256:" not in image} == set()


def test_production_admits_what_cloudnativepg_starts() -> None:
    """Its operator names images by version; only in pods that carry its labels."""
    (policy,) = of_kind(built("production"), "ValidatingAdmissionPolicy")
    (rule,) = [v for v in policy["spec"]["validations"] if "digest" in v["message"]]
    assert "c.image.startsWith('ghcr.io/cloudnative-pg/')" in rule["expression"]
    assert "'cnpg.io/poolerName' in object.metadata.labels" in rule["expression"]
