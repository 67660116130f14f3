"""Writes files/dashboards/csecbridge.json, Grafana's dashboard, from `panels`.

python helm/observability/dashboard.py            write it
python helm/observability/dashboard.py --check    1 when it is stale
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from panels import ROWS
from queries import Panel

FILE: Final = Path(__file__).resolve().parent / "files/dashboards/csecbridge.json"
COLUMNS: Final = 24
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(rows: Mapping[str, Sequence[Panel]] = ROWS) -> dict[str, Any]:
    """The whole, as Grafana 11 and later read it."""
    return {
        "uid": "csecbridge",
        "title": "CSecBridge",
        "tags": ["csecbridge"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_source(), _namespace()]},
        "panels": list(_laid_out(rows)),
    }


def _source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _namespace() -> dict[str, Any]:
    query = "label_values(csb_queue_up, namespace)"
    return {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "namespace"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
    }


def _laid_out(rows: Mapping[str, Sequence[Panel]]) -> Iterator[dict[str, Any]]:
    """Panels from left to right, a new line where one no longer fits; each row has its head."""
    number, y = 0, 0
    for title, panels in rows.items():
        number += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place}
        x, y, below = 0, y + 1, y + 1
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y = 0, below
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_drawn(panel)}
            x, below = x + panel.width, max(below, y + panel.height)
        y = below


def _drawn(panel: Panel) -> dict[str, Any]:
    """One panel, without its place."""
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.thresholds:
        (_, first), *others = panel.thresholds
        steps: list[dict[str, Any]] = [{"value": None, "color": first}]
        steps += [{"value": value, "color": colour} for value, colour in others]
        defaults |= {"thresholds": {"mode": "absolute", "steps": steps}}
    if panel.stacked:
        defaults["custom"] = {"fillOpacity": 30, "stacking": {"mode": "normal", "group": "A"}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.asks,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": query,
                "legendFormat": legend or panel.title,
                "range": True,
            }
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        calcs = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": calcs, "colorMode": "background", "graphMode": "none"}
    legend = {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def main(argv: Sequence[str]) -> int:
    """Write it, or say that it is stale."""
    wanted = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" in argv:
        fresh = FILE.exists() and FILE.read_text(encoding="utf-8") == wanted
        if not fresh:
            print(f"{FILE.name} is stale: python helm/observability/dashboard.py")
        return 0 if fresh else 1
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
