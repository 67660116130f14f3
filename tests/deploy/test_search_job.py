"""The Job that makes logs searchable: restricted, cut off, and told what its program reads."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest
from tests.deploy.charts import HELM, Manifest, NotRendered, named, of_kind, pods, rendered
from tests.deploy.test_pods import faults, judged

SHIPPED: Final = HELM / "observability/files/search"
PEERS: Final = '[{"ipBlock": {"cidr": "10.9.0.0/16"}}]'
PLACED: Final = (f"elasticsearch.to={PEERS}", f"kibana.to={PEERS}")
BOTH: Final = (
    "elasticsearch.url=https://elasticsearch.example:9200",
    "kibana.url=https://kibana.example",
)
MINE: Final = "csecbridge-search"


def _mine(*values: str) -> dict[str, Manifest]:
    found = rendered("observability", values=(*BOTH, *values), json_values=PLACED)
    return {m["kind"]: m for m in found if m["metadata"]["name"] == MINE}


def test_everything_that_the_job_needs_is_there_before_it() -> None:
    mine = _mine()
    assert set(mine) == {"ServiceAccount", "NetworkPolicy", "ConfigMap", "Job"}
    weights = {}
    for kind, manifest in mine.items():
        notes = manifest["metadata"]["annotations"]
        assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation"
        weights[kind] = int(notes["helm.sh/hook-weight"])
    assert all(weights[kind] < weights["Job"] for kind in set(mine) - {"Job"})


def test_its_pod_is_restricted() -> None:
    ((name, pod),) = [p for p in pods(tuple(_mine().values())) if p[0] == f"Job/{MINE}"]
    assert list(faults(pod)) == []
    assert judged(pod) == "", name


def test_it_is_told_nothing_that_its_program_does_not_read() -> None:
    (container,) = _mine()["Job"]["spec"]["template"]["spec"]["containers"]
    told = {variable["name"] for variable in container["env"]}
    program = (SHIPPED / "install.py").read_text()
    explained = ast.get_docstring(ast.parse(program)) or ""
    for name in told:
        assert re.search(rf"\b({name}|{name.removesuffix('_FILE')})\b", explained), name
    assert not {"ES_PASSWORD", "ES_API_KEY"} & told, "a secret is a file"
    paths = {v["value"] for v in container["env"] if v["name"].endswith("_FILE")}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {path.rpartition("/")[0] for path in paths} <= mounted


def test_it_carries_what_is_shipped_to_the_letter() -> None:
    carried = _mine()["ConfigMap"]["data"]
    assert carried == {path.name: path.read_text() for path in SHIPPED.iterdir() if path.is_file()}


def test_it_reaches_both_servers_and_names_and_nothing_else() -> None:
    spec = _mine()["NetworkPolicy"]["spec"]
    assert (spec["policyTypes"], spec["ingress"]) == (["Ingress", "Egress"], [])
    open_ports = [[port["port"] for port in rule["ports"]] for rule in spec["egress"]]
    assert open_ports == [[53, 53], [9200], [443]]
    assert all(rule["to"] for rule in spec["egress"])


def test_without_kibana_it_neither_names_nor_reaches_one() -> None:
    mine = _mine("kibana.url=")
    assert "KIBANA" not in str(mine["Job"])
    assert len(mine["NetworkPolicy"]["spec"]["egress"]) == 2


@pytest.mark.parametrize("values", [("search.enabled=false",), ("collector.enabled=false",)])
def test_it_can_be_left_out(values: tuple[str, ...]) -> None:
    found = rendered("observability", values=(*BOTH, *values), json_values=PLACED)
    names = {named(manifest) for manifest in of_kind(found, "Job")}
    assert names == (set() if "search" in values[0] else {f"Job/{MINE}"})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("kibana.url=http://kibana.example", "kibana/url|kibana.url"),
        ("search.lifecycle=off", "lifecycle"),
        ("search.retentionDays=1", "retentionDays"),
        ("kibana.to=null", "kibana.to"),
    ],
)
def test_what_cannot_work_is_refused(value: str, said: str) -> None:
    with pytest.raises(NotRendered, match=said):
        rendered("observability", values=(*BOTH, value), json_values=PLACED[:1])
