"""Who reaches whom, over the charts' policies and the namespace's default."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Final

import pytest
import yaml
from tests.deploy.charts import Manifest, of_kind, pods, rendered, run
from tests.deploy.reach import Place, reaches
from tests.house import ROOT

API, AWS, SANDBOX = "api-service", "worker-aws", "worker-sandbox"
MIGRATIONS, MAINTENANCE, SMOKE = "migrations", "maintenance", "smoke"
POSTGRES, REDIS = "postgres-db", "redis"
CSBCTL, BACKUP, RESTORE = "csbctl", "backup", "restore"
OPERATION: Final = (MIGRATIONS, MAINTENANCE, CSBCTL, BACKUP, RESTORE)
OURS: Final = (API, AWS, SANDBOX, *OPERATION, SMOKE, POSTGRES, REDIS)
OUTSIDE: Final = {
    "neighbour": Place(name="neighbour", namespace="csb-app", labels={"app": "neighbour"}),
    "caller": Place(name="caller", namespace="shop", labels={"app": "shop"}),
    "dns": Place(name="dns", namespace="kube-system", labels={"k8s-app": "kube-dns"}),
    "prometheus": Place(name="prometheus", namespace="monitoring"),
    "keda": Place(name="keda", namespace="keda"),
    "aws": Place(name="aws", address="52.94.0.10"),
    "metadata": Place(name="metadata", address="169.254.169.254"),
    "cluster's API": Place(name="cluster's API", address="10.96.0.1"),
    "node": Place(name="node", address="192.168.1.4"),
}
PORTS: Final = {
    API: (8000, 9090),
    AWS: (8001, 9091),
    SANDBOX: (8001, 9091),
    POSTGRES: (5432,),
    REDIS: (6379,),
    "dns": (53,),
    "aws": (80, 443),
    "metadata": (80, 443),
    "cluster's API": (443,),
    "node": (443, 10250),
    "caller": (80, 443),
    "neighbour": (80,),
}

#: All that is open: who, whom, on which port. What is not listed is closed. The neighbour's own way
#: out is shut by the namespace's default.
OPEN: Final = {
    *((caller, API, 8000) for caller in ("caller", "dns", "prometheus", "keda")),
    *((who, "dns", 53) for who in (API, AWS, SANDBOX, SMOKE, *OPERATION)),
    *((who, POSTGRES, 5432) for who in (API, AWS, SANDBOX, "keda", *OPERATION)),
    *((who, REDIS, 6379) for who in (API, AWS, SANDBOX, MAINTENANCE, CSBCTL)),
    (SMOKE, API, 8000),
    (AWS, "aws", 443),
    *(("prometheus", whom, port) for whom, port in ((API, 9090), (AWS, 9091), (SANDBOX, 9091))),
}


@cache
def default_deny() -> tuple[Manifest, ...]:
    built = run("kustomize", "build", str(ROOT / "platform-config/overlays/production"))
    return tuple(of_kind(tuple(yaml.safe_load_all(built)), "NetworkPolicy"))


def places(manifests: tuple[Manifest, ...]) -> dict[str, Place]:
    found = {}
    for _, pod in pods(manifests):
        labels = pod["metadata"]["labels"]
        component = labels["app.kubernetes.io/component"]
        found[component] = Place(name=component, namespace="csb-app", labels=labels)
    return found


def matrix(manifests: tuple[Manifest, ...]) -> set[tuple[str, str, int]]:
    """Each connection that is open, of all between ours and between ours and the world."""
    policies = [*of_kind(manifests, "NetworkPolicy"), *default_deny()]
    ours = places(manifests)
    everybody = {**ours, **OUTSIDE}
    return {
        (source, target, port)
        for source, target in product(everybody, everybody)
        if source != target and (source in ours or target in ours)
        for port in PORTS.get(target, ())
        if reaches(policies, everybody[source], everybody[target], port)
    }


@pytest.mark.parametrize("preset", ["dev", "small"])
def test_what_is_open_is_what_is_listed(preset: str) -> None:
    manifests = rendered(preset=preset, values=("console.enabled=true", "backup.enabled=true"))
    assert set(places(manifests)) == set(OURS)
    assert matrix(manifests) == OPEN


def test_the_sandbox_reaches_its_stores_and_names_and_nothing_else() -> None:
    found = {(whom, port) for who, whom, port in matrix(rendered(preset="dev")) if who == SANDBOX}
    assert found == {("dns", 53), (POSTGRES, 5432), (REDIS, 6379)}


def test_a_label_alone_opens_no_store_to_another_release() -> None:
    """Without the namespace's default, so that the store's own policy alone shuts strangers out."""
    policies = of_kind(rendered(preset="dev"), "NetworkPolicy")
    postgres = places(rendered(preset="dev"))[POSTGRES]
    labels = {"csecbridge.io/reaches-postgres": "true", "app.kubernetes.io/instance": "another"}
    stranger = Place(name="stranger", namespace="csb-app", labels=labels)
    assert not reaches(policies, stranger, postgres, 5432)
    elsewhere = Place(name="elsewhere", namespace="shop", labels={**labels, **postgres.labels})
    assert not reaches(policies, elsewhere, postgres, 5432)


def test_external_stores_are_reached_where_they_are() -> None:
    at = "10.20.0.5"
    place = Place(name="store", address=at)
    values = (
        "migrations.bootstrap.host=db.example.org",
        "backup.enabled=true",
        "global.postgres.mode=external",
        "global.redis.mode=external",
        "global.postgres.egressTo[0].ipBlock.cidr=10.20.0.0/24",
        "global.redis.egressTo[0].ipBlock.cidr=10.20.0.0/24",
    )
    manifests = rendered(preset="dev", values=values)
    policies = [*of_kind(manifests, "NetworkPolicy"), *default_deny()]
    found = places(manifests)
    assert {POSTGRES, REDIS}.isdisjoint(found)
    who = {name for name, pod in found.items() if reaches(policies, pod, place, 5432)}
    assert who == {API, AWS, SANDBOX, *OPERATION}
    who = {name for name, pod in found.items() if reaches(policies, pod, place, 6379)}
    assert who == {API, AWS, SANDBOX, MAINTENANCE, CSBCTL}


def test_with_an_operator_services_reach_the_pooler_and_it_the_cluster() -> None:
    manifests = rendered(preset="ha")
    policies = [*of_kind(manifests, "NetworkPolicy"), *default_deny()]
    found = places(manifests)
    name = "csecbridge-postgres-db"
    pooler = Place(
        name="pooler", namespace="csb-app", labels={"cnpg.io/poolerName": f"{name}-pooler"}
    )
    cluster = Place(name="cluster", namespace="csb-app", labels={"cnpg.io/cluster": name})
    assert reaches(policies, pooler, cluster, 5432)
    assert not reaches(policies, cluster, pooler, 5432)
    everybody = {**found, **OUTSIDE}
    who = {name for name, place in everybody.items() if reaches(policies, place, pooler, 5432)}
    assert who == {API, AWS, SANDBOX, MIGRATIONS, MAINTENANCE, BACKUP, RESTORE, "keda"}
    watched = {who for who in everybody if reaches(policies, everybody[who], pooler, 9127)}
    assert watched == {"prometheus"}


def test_without_the_namespaces_default_the_charts_policies_hold_alone() -> None:
    manifests = rendered(preset="dev", values=("backup.enabled=true",))
    policies = of_kind(manifests, "NetworkPolicy")
    selected = {
        name
        for name, place in places(manifests).items()
        if any(
            policy["spec"]["podSelector"]["matchLabels"].items() <= place.labels.items()
            for policy in policies
        )
    }
    assert selected == set(OURS), "a pod that no policy selects reaches everything"
