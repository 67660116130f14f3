"""The collector's chart and namespace: one reader of one namespace on every node, no more."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
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
    run,
)
from tests.deploy.reach import Place, reaches
from tests.deploy.test_pods import judged
from tests.house import ROOT, text
from tests.logs import pipeline
from tests.logs.fluentd import Section, read

VALUES: Final = (
    "elasticsearch.url=https://elasticsearch.example:9200",
    "elasticsearch.to[0].ipBlock.cidr=10.9.0.0/16",
    "search.enabled=false",
)
MONITORED: Final = (*VALUES, "global.monitoring.enabled=true")
IN_UMBRELLA: Final = ("observability.enabled=true", *(f"observability.{one}" for one in VALUES))

ELASTICSEARCH: Final = Place(name="elasticsearch", address="10.9.0.4")
CLUSTER: Final = Place(name="cluster's API", address="192.168.1.1")
DNS: Final = Place(name="dns", namespace="kube-system", labels={"k8s-app": "kube-dns"})
PROMETHEUS: Final = Place(name="prometheus", namespace="monitoring")
ELSEWHERE: Final = (
    Place(name="metadata", address="169.254.169.254"),
    Place(name="internet", address="52.94.0.10"),
    Place(name="pod of ours", namespace="csb-app", labels={"app.kubernetes.io/name": "csecbridge"}),
)


def collector(manifests: tuple[Manifest, ...]) -> Manifest:
    """The pod of the DaemonSet."""
    (daemons,) = of_kind(manifests, "DaemonSet")
    template: Manifest = daemons["spec"]["template"]
    return template


@cache
def ground() -> tuple[Manifest, ...]:
    """What platform-config/logging lays."""
    built = run("kustomize", "build", str(ROOT / "platform-config/logging"))
    return tuple(yaml.safe_load_all(built))


def test_the_chart_is_clean() -> None:
    values = [part for value in MONITORED for part in ("--set", value)]
    run("helm", "lint", "--strict", str(HELM / "observability"), *values)


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_manifest_is_valid(kubernetes: str) -> None:
    shipped = rendered("observability", values=VALUES, kubernetes=kubernetes)
    assert len(shipped) >= 6
    for manifest in (*shipped, *ground()):
        kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_the_configuration_arrives_to_the_letter() -> None:
    found = of_kind(rendered("observability", values=VALUES), "ConfigMap")
    (config,) = (one for one in found if one["metadata"].get("namespace") == "csb-logging")
    shipped = {path.name: text(path) for path in pipeline.FILES.iterdir()}
    assert {name: one.strip() for name, one in config["data"].items()} == {
        name: one.strip() for name, one in shipped.items()
    }


def test_the_pod_says_all_that_the_configuration_asks() -> None:
    pod = collector(rendered("observability", values=VALUES))
    (fluentd,) = containers(pod)
    said = {one["name"]: one.get("value") for one in fluentd["env"]}
    for name, value in pipeline.ENVIRONMENT.items():
        assert said[name] in {value, None}
    assert said["FLUENTD_CONF"] == "csb/fluent.conf"
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in fluentd["volumeMounts"]}
    assert mounts == {
        "/fluentd/etc/csb": True,
        "/etc/csb-elasticsearch": True,
        "/var/log": True,
        "/var/lib/csb-fluentd": False,
        "/tmp": False,
    }
    secrets = {
        (one["name"], one["valueFrom"]["secretKeyRef"]["key"])
        for one in fluentd["env"]
        if "secretKeyRef" in one.get("valueFrom", {})
    }
    assert secrets == {("CSB_LOGS_USER", "username"), ("CSB_LOGS_PASSWORD", "password")}


def test_a_new_configuration_starts_new_pods() -> None:
    pod = collector(rendered("observability", values=VALUES))
    assert len(pod["metadata"]["annotations"]["checksum/config"]) == 64


def test_of_root_it_keeps_the_right_to_read() -> None:
    pod = collector(rendered("observability", values=VALUES))
    (fluentd,) = containers(pod)
    assert fluentd["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]},
    }
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()


def test_it_is_restricted_but_for_what_reading_a_node_takes() -> None:
    """Kubernetes' own evaluator: take that away, and nothing is left to say."""
    pod = collector(rendered("observability", values=VALUES))
    assert judged(pod)
    spec = {**pod["spec"], "volumes": [v for v in pod["spec"]["volumes"] if "hostPath" not in v]}
    (fluentd,) = containers(pod)
    bare = {**fluentd["securityContext"], "capabilities": {"drop": ["ALL"]}}
    spec["containers"] = [{**fluentd, "securityContext": bare}]
    spec["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert judged({**pod, "spec": spec}) == ""


def test_it_may_ask_for_pods_of_one_namespace_and_nothing_else() -> None:
    manifests = rendered("observability", values=VALUES)
    (role,) = of_kind(manifests, "Role")
    assert role["metadata"]["namespace"] == "csb-app"
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    (binding,) = of_kind(manifests, "RoleBinding")
    (account,) = of_kind(manifests, "ServiceAccount")
    assert binding["subjects"] == [
        {
            "kind": "ServiceAccount",
            "name": account["metadata"]["name"],
            "namespace": account["metadata"]["namespace"],
        }
    ]
    assert account["automountServiceAccountToken"] is False
    assert not of_kind(manifests, "ClusterRole", "ClusterRoleBinding", "Secret")


def test_it_reaches_names_elasticsearch_and_the_cluster_and_nothing_else() -> None:
    manifests = rendered("observability", values=VALUES)
    policies = [*of_kind(manifests, "NetworkPolicy"), *of_kind(ground(), "NetworkPolicy")]
    labels = collector(manifests)["metadata"]["labels"]
    own = Place(name="collector", namespace="csb-logging", labels=labels)
    targets = (ELASTICSEARCH, CLUSTER, DNS, PROMETHEUS, *ELSEWHERE)
    found = {
        (target.name, port)
        for target, port in product(targets, (53, 80, 443, 6443, 9200))
        if reaches(policies, own, target, port)
    }
    # Elasticsearch stands where the cluster's API may be as well.
    assert found == {
        ("dns", 53),
        ("elasticsearch", 9200),
        *product(("elasticsearch", "cluster's API"), (443, 6443)),
    }
    callers = (PROMETHEUS, DNS, *ELSEWHERE)
    assert {c.name for c in callers if reaches(policies, c, own, 24231)} == {"prometheus"}
    stranger = Place(name="stranger", namespace="csb-logging", labels={"app": "stranger"})
    assert not reaches(policies, stranger, ELASTICSEARCH, 9200)


def test_it_stands_on_every_node_and_is_given_up_late() -> None:
    pod = collector(rendered("observability", values=VALUES))["spec"]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    (urgency,) = of_kind(ground(), "PriorityClass")
    assert pod["priorityClassName"] == urgency["metadata"]["name"]
    assert not urgency["globalDefault"]


def test_its_namespace_is_open_for_it_and_shut_for_the_rest() -> None:
    manifests = rendered("observability", values=VALUES)
    (namespace,) = of_kind(ground(), "Namespace")
    assert namespace["metadata"]["name"] == "csb-logging"
    levels = namespace["metadata"]["labels"]
    assert levels["pod-security.kubernetes.io/enforce"] == "privileged"
    (deny,) = of_kind(ground(), "NetworkPolicy")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    (policy,) = of_kind(ground(), "ValidatingAdmissionPolicy")
    said = " ".join(one["expression"] for one in policy["spec"]["validations"])
    for _, pod in pods(manifests):
        for volume in pod["spec"]["volumes"]:
            if "hostPath" in volume:
                assert f"'{volume['hostPath']['path']}'" in said
        for container in containers(pod):
            assert f"'{container['image'].partition(':')[0]}:'" in said
    (binding,) = of_kind(ground(), "ValidatingAdmissionPolicyBinding")
    assert binding["spec"]["validationActions"] == ["Deny", "Audit"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("elasticsearch.url=http://elasticsearch:9200", "does not match pattern"),
        ("elasticsearch.url=", "https://"),
        ("elasticsearch.to=null", "elasticsearch.to"),
        ("environment=pre-production", "does not match pattern"),
        ("collector.bufferSize=2G", "does not match pattern"),
        ("collector.privileged=true", "additional properties"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(change: str, complaint: str) -> None:
    with pytest.raises(NotRendered, match=complaint):
        rendered("observability", values=(*VALUES, change))


@pytest.mark.parametrize(
    ("url", "port"), [("https://e.example", 443), ("https://e.example:9243/path", 9243)]
)
def test_the_port_is_the_one_of_the_address(url: str, port: int) -> None:
    manifests = rendered("observability", values=(*VALUES, f"elasticsearch.url={url}"))
    (policy,) = of_kind(manifests, "NetworkPolicy")
    ports = [[one["port"] for one in rule["ports"]] for rule in policy["spec"]["egress"]]
    assert ports == [[53, 53], [port], [443, 6443]]


def test_prometheus_reads_every_pod_and_knows_its_node() -> None:
    manifests = rendered("observability", values=MONITORED)
    (monitor,) = of_kind(manifests, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["relabelings"][0]["targetLabel"] == "node"
    ports = {one["name"]: one for one in containers(collector(manifests))[0]["ports"]}
    config = pipeline.shipped()
    assert f"port {ports[endpoint['port']]['containerPort']}\n" in config
    (rule,) = of_kind(manifests, "PrometheusRule")
    assert "RUNBOOKS" not in str(rule)
    assert not of_kind(rendered("observability", values=VALUES), "PodMonitor", "PrometheusRule")


def test_the_umbrella_brings_it_when_it_is_wanted() -> None:
    without = rendered(preset="dev")
    assert not of_kind(without, "DaemonSet")
    having = rendered(preset="dev", values=IN_UMBRELLA)
    alone = {named(m) for m in rendered("observability", values=VALUES)}
    assert {named(m) for m in having} - {named(m) for m in without} == alone


def _alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load(text(HELM / "observability/files/alerts.yaml"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def test_each_alert_leads_to_its_page_and_is_seen_firing() -> None:
    tried = yaml.safe_load(text(ROOT / "tests/logs/alerts.yaml"))
    fired = {
        case["alertname"]
        for test in tried["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {alert["alert"] for alert in _alerts()}
    for alert in _alerts():
        page = ROOT / "docs/runbooks" / alert["annotations"]["runbook_url"].partition("/")[2]
        for part in (alert["alert"], "**What it says**", "**Look**", "**Do**"):
            assert part in text(page), f"{page.name} has no {part}"


def test_alerts_fire_when_they_should(tmp_path: Any) -> None:
    rules = text(HELM / "observability/files/alerts.yaml")
    (tmp_path / "alerts.yaml").write_text(rules.replace("RUNBOOKS", "https://example.org"))
    tried = text(ROOT / "tests/logs/alerts.yaml")
    (tmp_path / "tried.yaml").write_text(tried)
    run("promtool", "check", "rules", str(tmp_path / "alerts.yaml"))
    run("promtool", "test", "rules", str(tmp_path / "tried.yaml"))


def _error_filters(config: str) -> list[Section]:
    whole = read(config, pipeline.ENVIRONMENT)
    return whole.one("label", "@ERROR").all("filter")


def test_alerts_watch_the_store_by_the_name_that_it_has() -> None:
    config = pipeline.shipped()
    said = str(_alerts())
    assert "@id csb_store\n" in config
    (counts,) = (s for s in _error_filters(config) if s.kind == "prometheus")
    metric = counts.one("metric").said
    assert metric["name"] in said
    # A counter that begins at its first event has not increased by it.
    assert metric["initialized"] == "true"
    assert said.count('plugin_id="csb_store"') == said.count("plugin_id=")
