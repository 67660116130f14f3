"""What people look for in the logs: the saved searches, and the charts of the dashboard.

Every query is one of Lucene, so that it finds the same wherever it is asked: in Kibana, or by the
tests in an Elasticsearch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

#: Stands in a query for what the reader looks for; no document contains it.
PASTE: Final = "PASTE-IT-HERE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A saved search: what it asks, and what of the answer it shows."""

    id: str
    title: str
    description: str
    query: str
    columns: tuple[str, ...]
    sort: tuple[str, str] = ("@timestamp", "desc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture on the dashboard: the lines that it counts, and by what."""

    id: str
    title: str
    kind: str
    query: str
    metric: Json
    buckets: tuple[Json, ...]


def _of_any(fields: Sequence[str]) -> str:
    return " OR ".join(f'{field}:"{PASTE}"' for field in fields)


SEARCHES: Final = (
    Search(
        id="csb-by-correlation-id",
        title="CSecBridge: one request, by correlation id",
        description="Everything that was said about one request, oldest first. Paste its "
        "correlation id, or the request id or trace id of the call, in all places.",
        query=_of_any(
            ("correlation_id", "request_id", "trace.id", "context.execution_id", "context.requests")
        ),
        columns=("service.name", "message", "context.status", "context.code", "context.reason"),
        sort=("@timestamp", "asc"),
    ),
    Search(
        id="csb-by-principal",
        title="CSecBridge: by principal",
        description="What was done to an IAM principal (its name), or by a caller (the id of the "
        "API key). Paste it in both places.",
        query=_of_any(("context.principal_name", "context.user_id")),
        columns=(
            "message",
            "context.action",
            "context.account_id",
            "context.principal_type",
            "context.principal_name",
            "context.status",
            "correlation_id",
        ),
    ),
    Search(
        id="csb-by-aws-request-id",
        title="CSecBridge: by AWS request id",
        description="Which request made a call that CloudTrail or AWS support names. Paste its id.",
        query=_of_any(("context.refs.aws_request_id",)),
        columns=("correlation_id", "message", "context.action", "context.status", "context.code"),
    ),
    Search(
        id="csb-failures",
        title="CSecBridge: failures by class",
        description="Requests that ended as FAILED, with the class and the code of the reason.",
        query="message.keyword:request.ended AND context.status:FAILED",
        columns=(
            "context.error_class",
            "context.code",
            "context.action",
            "context.account_id",
            "correlation_id",
        ),
    ),
    Search(
        id="csb-security",
        title="CSecBridge: security events",
        description="Forged or unknown messages, forged caches, writes that came too late, and "
        "calls that were refused for who made them.",
        query="message.keyword:security.* OR message.keyword:request.stale_write_refused OR "
        "(message.keyword:http.served AND context.status:(401 OR 403))",
        columns=(
            "service.name",
            "message",
            "context.status",
            "context.path",
            "context.remote_address",
            "tenant_id",
        ),
    ),
    Search(
        id="csb-slowest",
        title="CSecBridge: slowest",
        description="Calls and requests by how long they took, the slowest first. A call with "
        "?wait= takes as long as it was asked to wait.",
        query="_exists_:context.duration_ms",
        columns=(
            "context.duration_ms",
            "message",
            "context.method",
            "context.path",
            "context.action",
            "correlation_id",
        ),
        sort=("context.duration_ms", "desc"),
    ),
    Search(
        id="csb-utils-killed",
        title="CSecBridge: utils that were killed, by reason",
        description="Runs of utils that did not end by themselves: time, memory, output, or killed "
        "by the kernel.",
        query="message.keyword:util.executed AND "
        "context.status:(timeout OR memory OR output OR killed)",
        columns=(
            "context.status",
            "context.util_id",
            "context.util_version",
            "context.execution_time_ms",
            "context.memory_used_mb",
            "tenant_id",
            "correlation_id",
        ),
    ),
    Search(
        id="csb-errors",
        title="CSecBridge: errors and crashes",
        description="What a service calls an error, and every traceback.",
        query="log.level:(error OR critical) OR _exists_:error.stack_trace",
        columns=("service.name", "message", "context.reason", "error.stack_trace"),
    ),
    Search(
        id="csb-not-ours",
        title="CSecBridge: lines that no service wrote as JSON",
        description="PostgreSQL's and Redis' lines, and what a program says before it can log.",
        query="NOT _exists_:log.logger",
        columns=("kubernetes.pod.name", "kubernetes.container.name", "log.iostream", "message"),
    ),
)

OVER_TIME: Final[Json] = {
    "type": "date_histogram",
    "schema": "segment",
    "params": {"field": "@timestamp", "interval": "auto", "min_doc_count": 1},
}
COUNT: Final[Json] = {"type": "count", "schema": "metric", "params": {}}


def _by(field: str, schema: str, label: str) -> Json:
    params = {"field": field, "size": 20, "order": "desc", "orderBy": "1", "customLabel": label}
    return {"type": "terms", "schema": schema, "params": params}


CHARTS: Final = (
    Chart(
        id="csb-chart-ended",
        title="Requests that ended, by status",
        kind="histogram",
        query="message.keyword:request.ended",
        metric=COUNT,
        buckets=(OVER_TIME, _by("context.status", "group", "Status")),
    ),
    Chart(
        id="csb-chart-duration",
        title="How long requests took, in ms",
        kind="line",
        query="message.keyword:request.ended",
        metric={
            "type": "percentiles",
            "schema": "metric",
            "params": {"field": "context.duration_ms", "percents": [50, 95, 99]},
        },
        buckets=(OVER_TIME,),
    ),
    Chart(
        id="csb-chart-failures",
        title="Failures by class",
        kind="table",
        query="message.keyword:request.ended AND context.status:FAILED",
        metric=COUNT,
        buckets=(
            _by("context.error_class", "bucket", "Class"),
            _by("context.code", "bucket", "Code"),
        ),
    ),
    Chart(
        id="csb-chart-answers",
        title="Answers over HTTP, by status",
        kind="histogram",
        query="message.keyword:http.served",
        metric=COUNT,
        buckets=(OVER_TIME, _by("context.status", "group", "Status")),
    ),
    Chart(
        id="csb-chart-killed",
        title="Utils that were killed, by reason",
        kind="pie",
        query=next(s.query for s in SEARCHES if s.id == "csb-utils-killed"),
        metric=COUNT,
        buckets=(_by("context.status", "segment", "Reason"),),
    ),
    Chart(
        id="csb-chart-security",
        title="Security events",
        kind="table",
        query=next(s.query for s in SEARCHES if s.id == "csb-security"),
        metric=COUNT,
        buckets=(_by("message.keyword", "bucket", "Event"),),
    ),
)
#: On the dashboard below its charts.
LISTED: Final = ("csb-failures", "csb-security", "csb-errors")
