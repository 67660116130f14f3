"""Grafana's dashboard asks only for numbers that there are, in PromQL that answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any, Final

import yaml
from tests.deploy.charts import HELM, of_kind, rendered, run
from tests.house import ROOT, text

from csb_core import metrics

BOARD: Final = json.loads(text(HELM / "observability/files/dashboards/csecbridge.json"))
#: What Prometheus adds to each number of ours.
ADDED: Final = {"namespace": ("csb-app",), "csecbridge_io_track": ("stable", "next")}
#: Values of labels by which queries choose; of all other labels one will do.
CHOSEN: Final[Mapping[str, tuple[str, ...]]] = {
    "status": ("202", "503"),
    "method": ("GET", "POST"),
    "outcome": ("succeeded", "failed"),
    "le": ("0.5", "+Inf"),
}
SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}


def queries() -> Iterator[tuple[str, str]]:
    """Yield each query with its panel's title, as Prometheus sees it."""
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "5m").replace("30d", "1h")
            yield panel["title"], query.replace("$namespace", "csb-app")


def series() -> dict[str, set[str]]:
    """Return every series' name that services show, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in metrics.declared():
        labels = set(metric._labelnames)
        for suffix in SUFFIXES[str(metric._type)]:
            found[metric._name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    for family in metrics.QueueCollector(list).collect():
        found[family.name] = set(family._labelnames)
    return found


def test_it_is_fresh() -> None:
    command = [sys.executable, str(HELM / "observability/dashboard.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_its_numbers_are_those_of_the_page_and_of_the_code() -> None:
    page = text(ROOT / "docs/metrics.md")
    there = series()
    asked = set()
    for title, query in queries():
        names = set(re.findall(r"([a-z_]+)\{", query))
        assert names, title
        for name in names:
            assert name in there, f"{title}: {name}"
            plain = re.sub("_(bucket|sum|count)$", "", name)
            assert f"`{name}`" in page or f"`{plain}`" in page, f"{title}: {name}"
            asked.add(plain)
    shown = set(re.findall(r"^\| `(\w+)` \| (?:histogram|counter|gauge)", page, re.MULTILINE))
    assert shown - asked == NOT_SHOWN


#: Numbers of the page that no panel asks for, since another tells it better.
NOT_SHOWN: Final = {"csb_requests_repeated_total", "csb_requests_claimed_total"} | {
    *("utils_created_total", "csb_retries_total"),
}


def test_its_labels_are_those_of_the_numbers() -> None:
    there = series()
    for title, query in queries():
        has: set[str] = set(ADDED)
        for name, chosen in re.findall(r"([a-z_]+)\{([^}]*)\}", query):
            has |= there[name]
            for label in re.findall(r"(\w+)[!=]", chosen):
                assert label in there[name] | set(ADDED), f"{title}: {name} has no {label}"
        for labels in re.findall(r"by \(([^)]*)\)", query):
            assert set(labels.split(", ")) <= has, f"{title}: {labels}"


def test_legends_name_labels_that_the_queries_leave() -> None:
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {
                label
                for labels in re.findall(r"by \(([^)]*)\)", target["expr"])
                for label in labels.split(", ")
            }
            assert named == kept - {"le"}, f"{panel['title']}: {target['expr']}"


def _sample(name: str, labels: set[str]) -> Iterator[dict[str, str]]:
    values = {label: CHOSEN.get(label, ("x",)) for label in sorted(labels)} | ADDED
    for chosen in product(*values.values()):
        pairs = ",".join(f'{k}="{v}"' for k, v in zip(values, chosen, strict=True))
        yield {"series": f"{name}{{{pairs}}}", "values": "1+60x180"}


def test_every_query_answers_where_there_are_numbers(tmp_path: Path) -> None:
    """Promtool evaluates each over one series of every number and of every label's values."""
    samples = [it for name, labels in series().items() for it in _sample(name, labels)]
    wanted = [{"labels": "{}", "value": 1}]
    asked = [
        {"expr": f"clamp_max(count({query}), 1)", "eval_time": "2h", "exp_samples": wanted}
        for _, query in queries()
    ]
    (tmp_path / "rules.yaml").write_text("groups: []\n", encoding="utf-8")
    tests: dict[str, Any] = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": samples, "promql_expr_test": asked}],
    }
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump(tests), encoding="utf-8")
    run("promtool", "test", "rules", str(path))
    assert len(asked) > 50


def test_panels_have_numbers_of_their_own_and_do_not_lie_on_each_other() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)


def test_the_chart_hands_it_to_grafana() -> None:
    found = of_kind(rendered("observability", values=("collector.enabled=false",)), "ConfigMap")
    (board,) = (m for m in found if m["metadata"]["name"].endswith("-dashboard"))
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["csecbridge.json"]) == BOARD
