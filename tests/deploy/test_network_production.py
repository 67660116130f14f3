"""Who reaches whom in production: CloudNativePG behind its pooler, Redis and the logs elsewhere."""

from __future__ import annotations

from itertools import product
from typing import Final

import pytest
import yaml
from tests.deploy.charts import WAYS, Manifest, of_kind, pods, rendered, run
from tests.deploy.reach import Place, reaches
from tests.deploy.test_network import default_deny
from tests.house import ROOT

CLUSTER, POOLER = "csecbridge-postgres-db", "csecbridge-postgres-db-pooler"
#: What operators make, and what lies outside.
OTHERS: Final = {
    "cluster": Place(name="cluster", namespace="csb-app", labels={"cnpg.io/cluster": CLUSTER}),
    "pooler": Place(name="pooler", namespace="csb-app", labels={"cnpg.io/poolerName": POOLER}),
    "operator": Place(name="operator", namespace="cnpg-system"),
    "keda": Place(name="keda", namespace="keda"),
    "prometheus": Place(name="prometheus", namespace="monitoring"),
    "caller": Place(name="caller", namespace="shop", labels={"app": "shop"}),
    "neighbour": Place(name="neighbour", namespace="csb-app", labels={"app": "neighbour"}),
    "of the logs": Place(name="of the logs", namespace="csb-logging", labels={"app": "other"}),
    "redis": Place(name="redis", address="10.20.0.5"),
    "elasticsearch": Place(name="elasticsearch", address="10.30.0.5"),
    "aws": Place(name="aws", address="52.94.0.10"),
    "metadata": Place(name="metadata", address="169.254.169.254"),
    "cluster's API": Place(name="cluster's API", address="172.20.0.1"),
    "archive": Place(name="archive", address="100.64.0.5"),
}
OUTSIDE: Final = ("aws", "metadata", "cluster's API", "archive")
PORTS: Final = {
    "api-service": (8000, 9090),
    "worker-aws": (8001, 9091),
    "worker-sandbox": (8001, 9091),
    "collector": (24231,),
    "cluster": (5432, 8000, 9187),
    "pooler": (5432, 9127),
    "redis": (6379,),
    "elasticsearch": (443, 9200),
    "aws": (80, 443),
    "metadata": (80, 443),
    "cluster's API": (443,),
    "archive": (80, 443),
}
SERVICES: Final = ("api-service", "worker-aws", "worker-sandbox")
OPERATION: Final = ("migrations", "maintenance", "csbctl", "backup", "restore")

METRICS: Final = (9090, 9091, 9127, 9187, 24231)

#: What CloudNativePG's own pods reach beside each other, while nobody has said where the cluster's
#: API is, nor the archive: whatever listens on the ports of these.
PORTS_OF_THE_API: Final = {
    *((who, whom, 443) for who in ("cluster", "pooler") for whom in (*OUTSIDE, "elasticsearch"))
}
WHERE: Final = (
    "postgres-db.cnpg.egress.clusterApiTo[0].ipBlock.cidr=172.20.0.1/32",
    "postgres-db.cnpg.egress.storeTo[0].ipBlock.cidr=100.64.0.0/24",
)
#: All that is open.
OPEN: Final = {
    *((who, "api-service", 8000) for who in ("caller", "keda", "prometheus", "operator", "smoke")),
    *((who, whom, 5432) for whom in ("cluster", "pooler") for who in (*SERVICES, *OPERATION)),
    *(("keda", whom, 5432) for whom in ("cluster", "pooler")),
    *(("operator", "cluster", port) for port in (5432, 8000)),
    ("pooler", "cluster", 5432),
    *((who, "redis", 6379) for who in (*SERVICES, "maintenance", "csbctl")),
    ("worker-aws", "aws", 443),
    ("collector", "elasticsearch", 443),
    ("collector", "cluster's API", 443),
    ("search", "elasticsearch", 443),
    *(("prometheus", who, port) for who in PORTS for port in PORTS[who] if port in METRICS),
}


@pytest.fixture(scope="module")
def manifests() -> tuple[Manifest, ...]:
    preset, values = WAYS["everything"]
    return rendered(preset=preset, values=values)


def places(manifests: tuple[Manifest, ...]) -> dict[str, Place]:
    """Each component of ours, in the namespace that its manifest names."""
    return {
        labels["app.kubernetes.io/component"]: Place(
            name=labels["app.kubernetes.io/component"],
            namespace=manifest["metadata"].get("namespace", "csb-app"),
            labels=labels,
        )
        for manifest in manifests
        for _, pod in pods((manifest,))
        if (labels := pod["metadata"]["labels"])
    }


def matrix(manifests: tuple[Manifest, ...]) -> set[tuple[str, str, int]]:
    logging = run("kustomize", "build", str(ROOT / "platform-config/logging"))
    shut = of_kind(tuple(yaml.safe_load_all(logging)), "NetworkPolicy")
    policies = [*of_kind(manifests, "NetworkPolicy"), *default_deny(), *shut]
    everybody = {**places(manifests), **OTHERS}
    return {
        (source, target, port)
        for source, target in product(everybody, everybody)
        if source != target and (everybody[source].namespace or everybody[target].namespace)
        for port in PORTS.get(target, ())
        if reaches(policies, everybody[source], everybody[target], port)
    }


def _open(manifests: tuple[Manifest, ...]) -> set[tuple[str, str, int]]:
    strangers = {"operator", "keda", "prometheus", "caller"}
    outside = {name for name, place in OTHERS.items() if place.namespace is None}
    return {way for way in matrix(manifests) if not (way[0] in strangers and way[1] in outside)}


def test_what_is_open_is_what_is_listed(manifests: tuple[Manifest, ...]) -> None:
    assert _open(manifests) == OPEN | PORTS_OF_THE_API


def test_who_says_where_the_api_and_the_archive_are_opens_nothing_else() -> None:
    preset, values = WAYS["everything"]
    narrow = {
        *((who, "cluster's API", 443) for who in ("cluster", "pooler")),
        ("cluster", "archive", 443),
    }
    assert _open(rendered(preset=preset, values=(*values, *WHERE))) == OPEN | narrow


def test_where_callers_are_named_the_api_answers_them_and_the_test_of_the_release() -> None:
    """What ends a deployment is `helm test`: a policy for callers must not shut it out."""
    preset, values = WAYS["everything"]
    named = 'api-service.ingressFrom=[{"podSelector": {"matchLabels": {"app": "neighbour"}}}]'
    strangers = {(who, "api-service", 8000) for who in ("caller", "keda", "prometheus", "operator")}
    found = _open(rendered(preset=preset, values=values, json_values=(named,)))
    # The neighbour's own way out is shut by default-deny, so the list knows nobody beside.
    assert found == (OPEN | PORTS_OF_THE_API) - strangers


def test_only_the_collector_asks_the_clusters_api(manifests: tuple[Manifest, ...]) -> None:
    ours = places(manifests)
    found = {who for who, whom, _ in matrix(manifests) if whom == "cluster's API" and who in ours}
    assert found == {"collector"}


def test_nobody_of_ours_reaches_the_metadata_service(manifests: tuple[Manifest, ...]) -> None:
    ours = places(manifests)
    assert not {who for who, whom, _ in matrix(manifests) if whom == "metadata" and who in ours}
