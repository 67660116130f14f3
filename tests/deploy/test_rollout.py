"""Two versions side by side: whom callers reach at each step; what serves is left alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from tests.deploy import schemas
from tests.deploy.charts import (
    HELM,
    KUBERNETES,
    Manifest,
    NotRendered,
    containers,
    named,
    of_kind,
    pods,
    rendered,
)
from tests.house import text

STABLE, NEXT = "csecbridge-api-service", "csecbridge-api-service-next"
BLUE_GREEN: Final = ("api-service.rollout.strategy=blue-green",)
CANARY: Final = (
    "api-service.rollout.strategy=canary",
    "api-service.httpRoute.enabled=true",
    "api-service.httpRoute.parentRefs[0].name=outside",
)
#: Groups of Kubernetes itself; the others are operators'.
BUILT_IN: Final = {"v1", "apps", "batch", "policy", "networking.k8s.io"}
SERVES: Final = ("api-service.image.tag=0.1.0",)
BESIDE: Final = (*SERVES, "api-service.rollout.next.tag=9.9.9")
WORKER_BESIDE: Final = ("worker.workers.aws.image.tag=0.1.0", "worker.workers.aws.next.tag=9.9.9")


def by_name(manifests: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    """All of one kind, by their names."""
    return {m["metadata"]["name"]: m for m in of_kind(manifests, kind)}


def led_to(manifests: tuple[Manifest, ...], service: str) -> set[str]:
    """Return the images that answer callers of this Service."""
    selector = by_name(manifests, "Service")[service]["spec"]["selector"]
    return {
        pod["spec"]["containers"][0]["image"].rpartition(":")[2]
        for name, pod in pods(manifests)
        if name.startswith("Deployment/") and selector.items() <= pod["metadata"]["labels"].items()
    }


def shares(manifests: tuple[Manifest, ...]) -> dict[str, int | None]:
    """Return the weight of each Service that the route leads to."""
    (route,) = of_kind(manifests, "HTTPRoute")
    (rule,) = route["spec"]["rules"]
    return {backend["name"]: backend.get("weight") for backend in rule["backendRefs"]}


@pytest.mark.parametrize("strategy", [(), BLUE_GREEN, CANARY], ids=["rolling", "blue", "canary"])
def test_one_version_alone_is_the_same_whatever_the_strategy(strategy: tuple[str, ...]) -> None:
    manifests = rendered(preset="small", values=strategy)
    assert set(by_name(manifests, "Deployment")) >= {STABLE}
    assert NEXT not in by_name(manifests, "Deployment")
    assert led_to(manifests, STABLE) == {"0.1.0"}
    assert by_name(manifests, "Deployment") == by_name(rendered(preset="small"), "Deployment")


def test_blue_green_moves_every_caller_at_once_and_back() -> None:
    beside = (*BLUE_GREEN, *BESIDE)
    waiting = rendered(preset="small", values=beside)
    assert (led_to(waiting, STABLE), led_to(waiting, NEXT)) == ({"0.1.0"}, {"9.9.9"})
    promoted = rendered(preset="small", values=(*beside, "api-service.rollout.serving=next"))
    assert (led_to(promoted, STABLE), led_to(promoted, NEXT)) == ({"9.9.9"}, {"9.9.9"})
    moved = {named(m) for m in promoted if m not in waiting}
    assert moved == {f"Service/{STABLE}"}, "one value moves one selector"


def test_a_canary_gets_the_share_that_it_is_given() -> None:
    assert shares(rendered(preset="small", values=CANARY)) == {STABLE: None}
    for weight in (0, 10, 100):
        values = (*CANARY, *BESIDE, f"api-service.rollout.weight={weight}")
        manifests = rendered(preset="small", values=values)
        assert shares(manifests) == {STABLE: 100 - weight, NEXT: weight}
        assert (led_to(manifests, STABLE), led_to(manifests, NEXT)) == ({"0.1.0"}, {"9.9.9"})


def test_a_long_migration_is_no_failed_rollout() -> None:
    manifests = rendered(preset="small")
    migrations = by_name(manifests, "Job")["csecbridge-migrations-1"]["spec"]
    for name, manifest in by_name(manifests, "Deployment").items():
        waits = manifest["spec"]["progressDeadlineSeconds"]
        assert waits > migrations["activeDeadlineSeconds"] + 600, f"{name}: its pods wait for 600 s"


@pytest.mark.parametrize("strategy", [BLUE_GREEN, CANARY], ids=["blue-green", "canary"])
def test_what_serves_is_left_alone(strategy: tuple[str, ...]) -> None:
    """No field of it changes, its settings included, so that no pod of it is restarted."""
    alone = rendered(preset="ha", values=(*strategy, *SERVES, WORKER_BESIDE[0]))
    values = (
        *(*strategy, *BESIDE, "api-service.rollout.next.env.CSB_LOG_LEVEL=debug"),
        *WORKER_BESIDE,
    )
    both = rendered(preset="ha", values=values)
    for kind in ("Deployment", "ConfigMap", "HorizontalPodAutoscaler", "ScaledObject"):
        of_both = by_name(both, kind)
        for name, manifest in by_name(alone, kind).items():
            assert of_both[name] == manifest, name
    assert by_name(both, "ConfigMap")[NEXT]["data"]["CSB_LOG_LEVEL"] == "debug"


def test_a_new_chart_restarts_nothing_by_its_number_alone(tmp_path: Path) -> None:
    copy = tmp_path / "helm"
    shutil.copytree(HELM, copy, symlinks=True)
    for chart in copy.glob("*/Chart.yaml"):
        chart.write_text(text(chart).replace("0.1.0", "0.2.0"))
    values = ("api-service.image.tag=0.1.0", "worker.workers.aws.image.tag=0.1.0")
    old = dict(pods(rendered(preset="small", values=values)))
    new = dict(pods(rendered(str(copy / "csecbridge"), preset="small", values=values)))
    for name in (f"Deployment/{STABLE}", "Deployment/csecbridge-worker-aws"):
        assert old[name] == new[name], name
    other = "Deployment/csecbridge-worker-sandbox"
    assert old[other] != new[other], "it has no tag of its own"


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_manifest_of_two_versions_is_valid(kubernetes: str) -> None:
    manifests = rendered(preset="small", values=(*CANARY, *BESIDE), kubernetes=kubernetes)
    names = [named(manifest) for manifest in manifests]
    assert len(names) == len(set(names))
    for manifest in manifests:
        schemas.check(manifest, kubernetes)
    assert {m["apiVersion"].partition("/")[0] for m in manifests} >= BUILT_IN


def test_no_pod_belongs_to_two_deployments() -> None:
    values = (*BLUE_GREEN, *BESIDE, *WORKER_BESIDE)
    manifests = rendered(preset="small", values=values)
    for pod in of_kind(manifests, "Deployment"):
        labels = pod["spec"]["template"]["metadata"]["labels"]
        owners = [
            m["metadata"]["name"]
            for m in of_kind(manifests, "Deployment")
            if m["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ]
        assert owners == [pod["metadata"]["name"]]
        beside = pod["metadata"]["name"].endswith("-next")
        assert labels["csecbridge.io/track"] == ("next" if beside else "stable")


def test_prometheus_finds_every_pod_once_and_tells_the_versions_apart() -> None:
    values = (*BLUE_GREEN, *BESIDE, "api-service.rollout.serving=next")
    manifests = rendered(preset="small", values=values)
    monitor = by_name(manifests, "ServiceMonitor")[STABLE]["spec"]
    assert monitor["podTargetLabels"] == ["csecbridge.io/track"]
    watched = [
        name
        for name, service in by_name(manifests, "Service").items()
        if monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        and "metrics" in {port["name"] for port in service["spec"]["ports"]}
    ]
    assert watched == [f"{STABLE}-metrics"]
    assert led_to(manifests, watched[0]) == {"0.1.0", "9.9.9"}


def test_each_version_is_asked_by_helm_test() -> None:
    manifests = rendered(preset="small", values=(*BLUE_GREEN, *BESIDE))
    asked = {
        variable["value"]
        for name, pod in pods(manifests)
        if name.startswith("Job/csecbridge-smoke")
        for container in containers(pod)
        for variable in container["env"]
        if variable["name"] == "CSB_URL"
    }
    assert asked == {f"http://{STABLE}:80", f"http://{NEXT}:80"}


@pytest.mark.parametrize(
    ("values", "pods_of_next"),
    [
        (("api-service.replicas=3",), 3),
        (("api-service.replicas=3", "api-service.rollout.next.replicas=1"), 1),
    ],
)
def test_next_has_as_many_pods_as_serve_or_as_it_is_told(
    values: tuple[str, ...], pods_of_next: int
) -> None:
    connections = "global.postgres.maxConnections=0"
    manifests = rendered(preset="small", values=(*BLUE_GREEN, *BESIDE, *values, connections))
    assert by_name(manifests, "Deployment")[NEXT]["spec"]["replicas"] == pods_of_next


def test_next_is_scaled_from_as_many_as_it_is_told() -> None:
    values = (*BLUE_GREEN, *BESIDE)
    manifests = rendered(preset="ha", values=(*values, "api-service.rollout.next.replicas=6"))
    of = {name: m["spec"] for name, m in by_name(manifests, "HorizontalPodAutoscaler").items()}
    assert (of[STABLE]["minReplicas"], of[NEXT]["minReplicas"]) == (3, 6)
    assert of[NEXT]["maxReplicas"] == of[STABLE]["maxReplicas"]
    assert of[NEXT]["scaleTargetRef"]["name"] == NEXT
    assert "replicas" not in by_name(manifests, "Deployment")[NEXT]["spec"]


def test_a_worker_beside_takes_its_part_of_the_same_queue() -> None:
    manifests = rendered(preset="ha", values=WORKER_BESIDE)
    both: dict[str, Any] = {
        name: manifest["spec"]
        for name, manifest in by_name(manifests, "Deployment").items()
        if name.startswith("csecbridge-worker-aws")
    }
    beside = both["csecbridge-worker-aws-next"]
    assert beside["replicas"] == 1, "KEDA scales what works, and this stays one"
    stable, other = (both[name]["template"]["spec"]["containers"][0] for name in sorted(both))
    assert stable["image"].replace("0.1.0", "9.9.9") == other["image"]
    assert {**stable, "image": ""} == {**other, "image": ""}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (BESIDE, "must be blue-green or canary"),
        (("api-service.rollout.serving=next", *BLUE_GREEN), "which names no image"),
        (("api-service.rollout.weight=5", *CANARY), "which names no image"),
        ((*CANARY, *BESIDE, "api-service.rollout.serving=next"), "a canary has rollout.weight"),
        ((*BLUE_GREEN, *BESIDE, "api-service.rollout.weight=5"), "has rollout.serving"),
        ((CANARY[0], *BESIDE), "a canary's share is a weight of the HTTPRoute"),
        (
            (*BLUE_GREEN, *BESIDE, f"global.digests.api-service=sha256:{'a' * 64}"),
            "next would be what serves",
        ),
        (
            (
                *WORKER_BESIDE,
                f"global.digests.worker-service-aws=sha256:{'a' * 64}",
            ),
            "next would be what works already",
        ),
        ((*BLUE_GREEN, BESIDE[-1]), "must say what serves"),
        (WORKER_BESIDE[1:], "must say what works"),
        ((*BLUE_GREEN, *BESIDE, "api-service.replicas=5"), "all pods together may open"),
        (
            (
                *(*WORKER_BESIDE, "worker.workers.aws.next.replicas=9"),
                "global.postgres.maxConnections=200",
            ),
            "all pods together may open",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_contradict_each_other_are_refused(values: tuple[str, ...], said: str) -> None:
    with pytest.raises(NotRendered) as refused:
        rendered(values=values)
    assert said in str(refused.value)
