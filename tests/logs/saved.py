"""What the shipped kibana.ndjson and mappings.json say, as the tests ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.logs.engine import SHIPPED, Engine

#: Stands in a query for what the reader looks for.
PASTE: Final = "PASTE-IT-HERE"
_ENOUGH: Final = 10_000


def objects() -> list[Any]:
    """All objects of the file, in its order."""
    return [json.loads(line) for line in (SHIPPED / "kibana.ndjson").read_text().splitlines()]


def searches() -> dict[str, Any]:
    """Id -> attributes of the saved searches."""
    return {one["id"]: one["attributes"] for one in objects() if one["type"] == "search"}


def query_of(attributes: Mapping[str, Any]) -> str:
    """The query of a search or a chart; only Lucene's language can be asked for here."""
    query = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]
    assert query["language"] == "lucene"
    text: str = query["query"]
    return text


def asked(query: str) -> dict[str, Any]:
    """How Kibana asks for a query of Lucene."""
    return {"query_string": {"query": query, "analyze_wildcard": True}}


def ids_found_by(engine: Engine, name: str, value: str = PASTE) -> list[str]:
    """The documents that a saved search finds, in its order, with `value` pasted into it."""
    search = searches()[name]
    request = {
        "size": _ENOUGH,
        "_source": False,
        "query": asked(query_of(search).replace(PASTE, value)),
        "sort": [dict(search["sort"])],
    }
    answer = engine.call("GET", "/logs-csecbridge.*-*/_search", request, user="csb_log_reader")
    return [hit["_id"] for hit in answer["hits"]["hits"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A chart, as a request that Elasticsearch answers."""

    id: str
    query: str
    aggregations: tuple[Mapping[str, Any], ...]

    def request(self) -> dict[str, Any]:
        """Its buckets inside each other, and its metric in the innermost."""
        metric, *buckets = self.aggregations
        inner = {} if metric["type"] == "count" else {"metric": _as_asked(metric)}
        for bucket in reversed(buckets):
            inner = {"bucket": {**_as_asked(bucket), **({"aggs": inner} if inner else {})}}
        return {"size": 0, "track_total_hits": True, "query": asked(self.query), "aggs": inner}

    def counted(self, answer: Mapping[str, Any]) -> int:
        """How many documents stand in the innermost buckets."""
        if "bucket" not in answer:
            assert all(v is not None for v in answer.get("metric", {}).get("values", {}).values())
            return 0
        return sum(
            self.counted(bucket) or bucket["doc_count"] for bucket in answer["bucket"]["buckets"]
        )


def _as_asked(aggregation: Mapping[str, Any]) -> dict[str, Any]:
    params = aggregation["params"]
    match aggregation["type"]:
        case "date_histogram":
            wanted = {"field": params["field"], "fixed_interval": "1m", "min_doc_count": 1}
        case "terms":
            wanted = {"field": params["field"], "size": params["size"]}
        case "percentiles":
            wanted = {"field": params["field"], "percents": params["percents"]}
        case other:
            raise ValueError(f"{other} is not known here")
    return {aggregation["type"]: wanted}


def charts() -> list[Drawn]:
    """The charts of the dashboard."""
    return [
        Drawn(
            id=one["id"],
            query=query_of(one["attributes"]),
            aggregations=tuple(json.loads(one["attributes"]["visState"])["aggs"]),
        )
        for one in objects()
        if one["type"] == "visualization"
    ]


def mapped() -> set[str]:
    """Every field that can be searched, by its path; `x.*` below a flattened one."""
    document = json.loads((SHIPPED / "mappings.json").read_text())
    return set(_fields(document["template"]["mappings"]["properties"]))


def _fields(properties: Mapping[str, Any]) -> Iterator[str]:
    for name, about in properties.items():
        if "type" in about:
            yield name
            yield from (f"{name}.{inner}" for inner in about.get("fields", {}))
        if about.get("type") == "flattened":
            yield f"{name}.*"
        yield from (f"{name}.{inner}" for inner in _fields(about.get("properties", {})))
