"""Writes files/search/kibana.ndjson: the data view, the saved searches and the dashboard.

python helm/observability/kibana.py            write it
python helm/observability/kibana.py --check    say whether it is stale; 1 when it is
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from searches import CHARTS, LISTED, SEARCHES, Chart, Json, Search

TARGET: Final = Path(__file__).resolve().parent / "files/search/kibana.ndjson"
DATA_VIEW: Final = "csb-logs"
PATTERN: Final = "logs-csecbridge.*-*"
INDEX_REFERENCE: Final = "kibanaSavedObjectMeta.searchSourceJSON.index"
#: The oldest form of each type that Kibana 8.8 and all later ones take; they bring it up to date.
FORMS: Final = {
    "index-pattern": "7.11.0",
    "search": "7.9.3",
    "visualization": "8.0.0",
    "dashboard": "8.7.0",
}


def objects() -> list[Json]:
    """Return all objects, each after those that it refers to."""
    return [
        _data_view(),
        *(_search(search) for search in SEARCHES),
        *(_chart(chart) for chart in CHARTS),
        _dashboard(),
    ]


def _object(kind: str, name: str, attributes: Json, references: list[Json]) -> Json:
    return {
        "attributes": attributes,
        "coreMigrationVersion": "8.8.0",
        "id": name,
        "managed": False,
        "references": references,
        "type": kind,
        "typeMigrationVersion": FORMS[kind],
    }


def _data_view() -> Json:
    attributes = {
        "title": PATTERN,
        "name": "CSecBridge logs",
        "timeFieldName": "@timestamp",
        "allowNoIndex": True,
        "fieldAttrs": "{}",
        "fieldFormatMap": "{}",
        "fields": "[]",
        "runtimeFieldMap": "{}",
        "sourceFilters": "[]",
        "typeMeta": "{}",
    }
    return _object("index-pattern", DATA_VIEW, attributes, [])


def _asking(query: str, *, indexed: bool = True) -> Json:
    """Return the part of an object that says what it asks."""
    source: Json = {"query": {"language": "lucene", "query": query}, "filter": []}
    if indexed:
        source["indexRefName"] = INDEX_REFERENCE
    return {"searchSourceJSON": _dense(source)}


def _search(search: Search) -> Json:
    attributes = {
        "title": search.title,
        "description": search.description,
        "columns": list(search.columns),
        "sort": [list(search.sort)],
        "grid": {},
        "hideChart": False,
        "kibanaSavedObjectMeta": _asking(search.query),
    }
    return _object("search", search.id, attributes, [_reference(INDEX_REFERENCE, DATA_VIEW)])


def _chart(chart: Chart) -> Json:
    aggregations = [
        {"id": str(number), "enabled": True, **one}
        for number, one in enumerate((chart.metric, *chart.buckets), start=1)
    ]
    params = {"type": chart.kind, "addTooltip": True, "addLegend": True}
    attributes = {
        "title": f"CSecBridge: {chart.title}",
        "description": "",
        "uiStateJSON": "{}",
        "version": 1,
        "visState": _dense(
            {"title": chart.title, "type": chart.kind, "params": params, "aggs": aggregations}
        ),
        "kibanaSavedObjectMeta": _asking(chart.query),
    }
    return _object("visualization", chart.id, attributes, [_reference(INDEX_REFERENCE, DATA_VIEW)])


def _dashboard() -> Json:
    shown = [("visualization", chart.id) for chart in CHARTS]
    shown += [("search", name) for name in LISTED]
    panels, references = [], []
    for number, (kind, name) in enumerate(shown):
        is_list = kind == "search"
        row, column = divmod(number, 2)
        place = (
            {"x": 0, "y": 12 * (len(CHARTS) // 2) + 14 * (number - len(CHARTS)), "w": 48, "h": 14}
            if is_list
            else {"x": 24 * column, "y": 12 * row, "w": 24, "h": 12}
        )
        panels.append(
            {
                "version": "8.8.0",
                "type": kind,
                "gridData": {**place, "i": str(number)},
                "panelIndex": str(number),
                "embeddableConfig": {"enhancements": {}},
                "panelRefName": f"panel_{number}",
            }
        )
        references.append(_reference(f"{number}:panel_{number}", name, kind))
    attributes = {
        "title": "CSecBridge",
        "description": "Requests, failures, durations, killed utils and security events.",
        "panelsJSON": _dense(panels),
        "optionsJSON": _dense({"useMargins": True, "hidePanelTitles": False}),
        "timeRestore": True,
        "timeFrom": "now-24h",
        "timeTo": "now",
        "refreshInterval": {"pause": True, "value": 60000},
        "version": 1,
        "kibanaSavedObjectMeta": _asking("", indexed=False),
    }
    return _object("dashboard", "csb-overview", attributes, references)


def _reference(name: str, target: str, kind: str = "index-pattern") -> Json:
    return {"id": target, "name": name, "type": kind}


def _dense(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def text() -> str:
    """Return the file: an object per line."""
    return "".join(json.dumps(one, sort_keys=True) + "\n" for one in objects())


def main(arguments: Sequence[str]) -> int:
    """Return the status for the shell."""
    if "--check" not in arguments:
        TARGET.write_text(text())
        return 0
    if TARGET.is_file() and TARGET.read_text() == text():
        return 0
    print(f"{TARGET.name} is stale: python helm/observability/kibana.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
