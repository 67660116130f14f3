"""The shipped template and searches in a real Elasticsearch, over lines that the services wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from tests.logs import services
from tests.logs.engine import PASSWORD, SHIPPED, Engine, EngineError, started
from tests.logs.pipeline import Stored, stored
from tests.logs.saved import PASTE, charts, ids_found_by, mapped, searches

pytestmark = pytest.mark.timeout(300)  # the first test waits for all servers

Document = Mapping[str, Any]
Expected = Callable[[Document], bool]

STREAMS: Final = "logs-csecbridge.*-*"
KILLED: Final = {"timeout", "memory", "output", "killed"}
TRACEBACK: Final = b"""Traceback (most recent call last):
  File "worker.py", line 1, in <module>
MemoryError
"""
CRASH: Final = (
    b'{"timestamp":"2026-01-02T00:00:00.000Z","level":"ERROR","service":"api-service",'
    b'"version":"1","logger":"api_service","message":"http.request_failed",'
    b'"context":{"code":"internal","exception":"Traceback ...\\nKeyError: x"},'
    b'"request_id":"r-crash"}\n'
)


def _context(document: Document) -> Mapping[str, Any]:
    context: Mapping[str, Any] = document.get("context", {})
    return context


def _is_security(document: Document) -> bool:
    said = document["message"]
    return (
        said.startswith("security.")
        or said == "request.stale_write_refused"
        or (said == "http.served" and _context(document)["status"] in {401, 403})
    )


#: What each search must find, said in another language than the search's own.
FINDS: Final[Mapping[str, Expected]] = {
    "csb-failures": lambda d: d["message"] == "request.ended" and _context(d)["status"] == "FAILED",
    "csb-security": _is_security,
    "csb-slowest": lambda d: "duration_ms" in _context(d),
    "csb-utils-killed": lambda d: (
        d["message"] == "util.executed" and _context(d)["status"] in KILLED
    ),
    "csb-errors": lambda d: (
        d["log"].get("level") in {"error", "critical"} or "stack_trace" in d.get("error", {})
    ),
    "csb-not-ours": lambda d: "logger" not in d["log"],
}


def install(engine: Engine, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the shipped program, as the chart's Job does."""
    return subprocess.run(
        [sys.executable, "-I", str(SHIPPED / "install.py")],
        env={
            "ES_URL": engine.url,
            "ES_CA_FILE": str(engine.authority),
            "ES_USERNAME": "csb_log_setup",
            "ES_PASSWORD": PASSWORD,
            # The engine has no module for lifecycles.
            "LOG_LIFECYCLE": "none",
            "INSTALL_SECONDS": "5",
            **more,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An Elasticsearch with what we ship."""
    with started(tmp_path_factory.mktemp("engine")) as engine:
        done = install(engine)
        assert done.returncode == 0, done.stderr
        yield engine


@pytest.fixture(scope="module")
def fresh() -> list[Stored]:
    """A day of the real services, through the pipeline's rules."""
    with services.platform() as running:
        said = services.lines_of_a_day(running)
    said["api-service"] += CRASH
    files = {services.pod_of(name).path: services.written(text) for name, text in said.items()}
    worker = services.pod_of("worker-sandbox").path
    files[worker] += services.written(TRACEBACK, stream="stderr")
    pods = {
        pod.name: {"labels": {"app.kubernetes.io/component": pod.component}}
        for pod in map(services.pod_of, said)
    }
    return stored(files, pods)


@pytest.fixture(scope="module")
def lines(fresh: list[Stored]) -> list[Stored]:
    """That day, and what was recorded or made by hand."""
    recorded = (services.GOLDEN / "documents.ndjson").read_text(encoding="utf-8").splitlines()
    return [*fresh, *(Stored(**json.loads(line)) for line in recorded)]


@pytest.fixture(scope="module")
def documents(engine: Engine, lines: list[Stored]) -> dict[str, Document]:
    """Name -> document of all lines, once Elasticsearch has them."""
    answers = _bring_in(engine, lines)
    assert {answer["status"] for answer in answers} == {201}, answers
    engine.call("POST", f"/{STREAMS}/_refresh")
    return {line.id: line.document for line in lines}


def _bring_in(engine: Engine, lines: Iterable[Stored]) -> list[Any]:
    given = [(line.index, line.id, line.document) for line in lines]
    return engine.create(given, user="csb_log_writer")


def test_every_line_becomes_a_document_and_no_field_is_left_aside(
    engine: Engine, documents: Mapping[str, Document]
) -> None:
    found = engine.call(
        "GET", f"/{STREAMS}/_search", {"size": 10_000, "_source": False, "fields": ["_ignored"]}
    )["hits"]["hits"]
    assert {hit["_id"] for hit in found} == set(documents)
    assert [hit for hit in found if "_ignored" in hit] == []
    assert {hit["_index"].split("-")[1] for hit in found} == {"logs"}  # .ds-logs-...


def test_what_the_services_said_can_be_searched(fresh: list[Stored]) -> None:
    said = {name for line in fresh for name in _context(line.document)}
    assert {name for name in said if f"context.{name}" not in mapped()} == set()


def test_a_line_that_comes_again_is_the_same_document(
    engine: Engine, lines: list[Stored], documents: Mapping[str, Document]
) -> None:
    assert {answer["status"] for answer in _bring_in(engine, lines)} == {409}
    engine.call("POST", f"/{STREAMS}/_refresh")
    assert engine.call("GET", f"/{STREAMS}/_count")["count"] == len(documents)


@pytest.mark.parametrize("name", FINDS)
def test_a_search_finds_what_it_must_and_nothing_else(
    name: str, engine: Engine, documents: Mapping[str, Document]
) -> None:
    wanted = {key for key, document in documents.items() if FINDS[name](document)}
    assert wanted, "the services said nothing of the kind"
    assert set(ids_found_by(engine, name)) == wanted


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "csb-by-correlation-id",
            ["correlation_id", "request_id", "trace.id", "context.execution_id"],
        ),
        ("csb-by-principal", ["context.principal_name", "context.user_id"]),
        ("csb-by-aws-request-id", ["context.refs.aws_request_id"]),
    ],
)
def test_a_search_for_a_value_finds_all_that_has_it_and_nothing_of_another(
    name: str, fields: list[str], engine: Engine, documents: Mapping[str, Document]
) -> None:
    values = {value for d in documents.values() for f in fields for value in values_of(d, f)}
    assert len(values) > 1, "nothing to tell apart"
    for value in values:
        wanted = {
            key
            for key, document in documents.items()
            if any(value in values_of(document, field) for field in fields)
        }
        assert set(ids_found_by(engine, name, value)) == wanted
    assert ids_found_by(engine, name) == [], f"{PASTE} is nothing that anybody logs"


def test_one_id_leads_from_the_api_to_the_worker(
    engine: Engine, documents: Mapping[str, Document]
) -> None:
    end = next(d for d in documents.values() if d["message"] == "request.ended")
    trail = [
        documents[i] for i in ids_found_by(engine, "csb-by-correlation-id", end["correlation_id"])
    ]
    assert {d["service"]["name"] for d in trail} > {"api-service"}
    assert [d["@timestamp"] for d in trail] == sorted(d["@timestamp"] for d in trail)


def test_the_slowest_come_first(engine: Engine, documents: Mapping[str, Document]) -> None:
    took = [_context(documents[i])["duration_ms"] for i in ids_found_by(engine, "csb-slowest")]
    assert took == sorted(took, reverse=True)
    assert len(set(took)) > 3


def test_what_is_not_ours_is_found_by_its_words(
    engine: Engine, documents: Mapping[str, Document]
) -> None:
    found = engine.call("GET", f"/{STREAMS}/_search?q=MemoryError")["hits"]["hits"]
    assert [documents[hit["_id"]]["message"] for hit in found] == ["MemoryError"]


def test_the_older_name_of_a_trace_finds_it_too(
    engine: Engine, documents: Mapping[str, Document]
) -> None:
    trace = next(d["trace"]["id"] for d in documents.values() if "trace" in d)
    wanted = sum(trace in values_of(d, "trace.id") for d in documents.values())
    assert engine.call("GET", f"/{STREAMS}/_count?q=trace_id:{trace}")["count"] == wanted > 0


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize("chart", charts(), ids=lambda chart: chart.id)
def test_a_chart_shows_all_that_its_query_finds(chart: Any, engine: Engine) -> None:
    answer = engine.call("GET", f"/{STREAMS}/_search", chart.request())
    assert answer["hits"]["total"]["value"] > 0
    assert chart.counted(answer["aggregations"]) == answer["hits"]["total"]["value"]


@pytest.mark.parametrize("name", sorted(searches()))
def test_a_search_shows_and_sorts_by_fields_that_are_mapped(name: str) -> None:
    search = searches()[name]
    assert {*search["columns"], search["sort"][0][0]} <= mapped()


def test_each_role_may_do_its_own_work_only(
    engine: Engine, documents: Mapping[str, Document]
) -> None:
    assert engine.call("GET", f"/{STREAMS}/_count", user="csb_log_reader")["count"] == len(
        documents
    )
    hit = engine.call("GET", f"/{STREAMS}/_search?size=1")["hits"]["hits"][0]
    one = f"/{hit['_index']}/_doc/{hit['_id']}"
    for user, method, path, body in (
        ("csb_log_writer", "DELETE", one, None),
        ("csb_log_writer", "PUT", f"{one}?if_seq_no=0&if_primary_term=1", {"@timestamp": 1}),
        ("csb_log_writer", "GET", f"/{STREAMS}/_search", None),
        ("csb_log_writer", "PUT", "/_index_template/mine", {"index_patterns": ["x-*"]}),
        ("csb_log_writer", "DELETE", "/logs-csecbridge.api_service-production", None),
        ("csb_log_writer", "PUT", "/other/_create/1", {"a": 1}),
        ("csb_log_reader", "PUT", "/logs-csecbridge.x-y/_create/1", {"@timestamp": 1}),
        ("csb_log_reader", "GET", "/other/_search", None),
        ("csb_log_setup", "GET", f"/{STREAMS}/_search", None),
        ("csb_log_setup", "PUT", "/_cluster/settings", {"transient": {"a": 1}}),
    ):
        with pytest.raises(EngineError, match="403"):
            engine.call(method, path, body, user=user)


def test_a_foreign_data_stream_of_logs_is_left_to_others(engine: Engine) -> None:
    ours = engine.call("POST", "/_index_template/_simulate_index/logs-csecbridge.new-test")
    assert ours["template"]["mappings"]["dynamic"] == "false"
    assert engine.call("POST", "/_index_template/_simulate_index/logs-other.new-test") == {}


def test_it_may_be_installed_again(engine: Engine) -> None:
    again = install(engine)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines() == [
        "installed /_component_template/csb-logs-settings",
        "installed /_component_template/csb-logs-mappings",
        "installed /_index_template/csb-logs",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ES_PASSWORD": "guessed"}, "401"),
        ({"ES_USERNAME": "csb_log_writer"}, "403"),
        ({"ES_CA_FILE": ""}, "CERTIFICATE_VERIFY_FAILED"),
        ({"ES_CA_FILE": os.devnull + "/none"}, "ES_CA_FILE: "),
        ({"ES_PASSWORD_FILE": "/no/such/file"}, "ES_PASSWORD_FILE: "),
        ({"ES_URL": "localhost:9200"}, "no http address"),
        ({"ES_URL": "https://localhost:1", "INSTALL_SECONDS": "1"}, "refused"),
        ({"ES_URL": ""}, "neither ES_URL nor KIBANA_URL"),
        ({"LOG_LIFECYCLE": "ilm"}, "/_ilm/policy/csb-logs: 4"),
        ({"LOG_LIFECYCLE": "off"}, "neither ilm nor none"),
        ({"LOG_LIFECYCLE": "ilm", "LOG_RETENTION_DAYS": "2"}, "LOG_RETENTION_DAYS"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_in_one_line(
    wrong: Mapping[str, str], said: str, engine: Engine
) -> None:
    done = install(engine, **wrong)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr


def test_credentials_may_come_from_files(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    done = install(engine, ES_PASSWORD="", ES_PASSWORD_FILE=str(tmp_path / "password"))
    assert done.returncode == 0, done.stderr


def values_of(document: Any, path: str) -> list[Any]:
    """What stands at `a.b.c` of a document: nothing, a value, or several."""
    for name in path.split("."):
        document = document.get(name, {})
    if document == {}:
        return []
    return document if isinstance(document, list) else [document]
