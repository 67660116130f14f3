"""Alerts watch numbers that exist, are tried by promtool, and lead to a page with a remedy."""

from __future__ import annotations

import re
from typing import Any

import yaml
from tests.deploy.charts import HELM, of_kind, rendered
from tests.house import ROOT, text

from csb_core import metrics

RULES = yaml.safe_load(text(HELM / "csecbridge/files/alerts.yaml"))
TRIED = yaml.safe_load(text(ROOT / "tests/deploy/alerts.yaml"))


def _alerts() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]


def test_each_alert_leads_to_its_page() -> None:
    for alert in _alerts():
        page = ROOT / "docs/runbooks" / alert["annotations"]["runbook_url"].partition("/")[2]
        assert page.is_file(), alert["alert"]
        assert alert["alert"] in text(page).splitlines()[0]
        for part in ("**What it says**", "**Look**", "**Do**"):
            assert part in text(page), f"{page.name} has no {part}"


def test_each_alert_is_seen_firing() -> None:
    fired = {
        case["alertname"]
        for test in TRIED["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {alert["alert"] for alert in _alerts()}


def test_alerts_watch_numbers_that_there_are() -> None:
    families = {family.name for family in metrics.QueueCollector(list).collect()}
    for metric in metrics.declared():
        name = metric._name
        families |= {name, f"{name}_total", f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    for group in RULES["groups"]:
        for rule in group["rules"]:
            watched = set(re.findall(r"\b(?:csb|utils)_\w+", rule["expr"]))
            assert watched <= families, rule.get("alert")


def test_each_rule_is_of_one_release_and_says_of_which() -> None:
    for group in RULES["groups"]:
        for rule in group["rules"]:
            own = len(re.findall(r'\{namespace="NAMESPACE"', rule["expr"]))
            series = len(re.findall(r"\b(?:csb[_:]|kube_deployment|up\{)", rule["expr"]))
            assert own == series, rule.get("alert", rule.get("record"))
            assert own or "by (namespace" in rule["expr"], rule["alert"]


def test_the_chart_carries_them_with_the_address_of_the_pages() -> None:
    (rule,) = of_kind(rendered(preset="small"), "PrometheusRule")
    address = yaml.safe_load(text(HELM / "csecbridge/values.yaml"))["monitoring"]["runbooks"]
    carried = [r for group in rule["spec"]["groups"] for r in group["rules"] if "alert" in r]
    assert [r["alert"] for r in carried] == [alert["alert"] for alert in _alerts()]
    assert all(r["annotations"]["runbook_url"].startswith(address) for r in carried)
    assert not re.search("RUNBOOKS|RELEASE|NAMESPACE|STANDBYS", str(rule))
    assert 'csb_queue_up{namespace="csb-app"}' in str(rule)
