"""Lines of real services, and bad ones, become the documents that are agreed on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from tests.house import text
from tests.logs import fluentd, pipeline, services
from tests.logs.pipeline import Stored

_BAD = "csb-api-service-6f7d9c8b5-badln"


@cache
def golden() -> tuple[Stored, ...]:
    """What the golden lines become."""
    return tuple(pipeline.stored(pipeline.golden_files(), pipeline.pods()))


def of_bad() -> list[Mapping[str, Any]]:
    """The documents of the lines that were made by hand."""
    found = (one.document for one in golden())
    return [one for one in found if one["kubernetes"]["pod"]["name"] == _BAD]


def saying(message: str) -> Mapping[str, Any]:
    """The only one of them with this message."""
    (found,) = (one for one in of_bad() if one["message"] == message)
    return found


def become(line: bytes, *, stream: str = "stdout") -> Mapping[str, Any]:
    """What one line of the API's container becomes."""
    pod = services.pod_of("api-service")
    (one,) = pipeline.stored({pod.path: services.written(line, stream=stream)}, pipeline.pods())
    return one.document


def test_golden_lines_become_the_documents_that_are_expected() -> None:
    expected = text(pipeline.GOLDEN / "documents.ndjson").splitlines()
    for found, wanted in zip(pipeline.as_lines(golden()), expected, strict=True):
        assert json.loads(found) == json.loads(wanted)


def test_no_line_is_lost_and_none_comes_twice() -> None:
    lines = 0
    for path, content in pipeline.golden_files().items():
        if "_csb-app_" in path:
            *whole, unfinished = content.split(b"\n")
            parts = sum(re.match(rb"\S+ (stdout|stderr) P", line) is not None for line in whole)
            lines += len(whole) - parts
            if b"the end of this line" in content:
                lines += 1  # parts whose last never came are a line as well
            assert (b"not ended" in unfinished) or not unfinished
    assert len(golden()) == lines
    assert len({one.id for one in golden()}) == lines


def test_a_second_reading_makes_the_same_documents() -> None:
    again = pipeline.stored(pipeline.golden_files(), pipeline.pods())
    assert [one.id for one in again] == [one.id for one in golden()]


def test_containers_of_other_namespaces_are_let_alone() -> None:
    assert any("_csb-logging_" in path for path in pipeline.golden_files())
    assert {one.document["kubernetes"]["namespace"] for one in golden()} == {"csb-app"}


def test_a_line_of_ours_is_found_by_what_it_says() -> None:
    ended = [one.document for one in golden() if one.document["message"] == "request.ended"]
    assert {one["service"]["name"] for one in ended} == {"worker-service-aws", "worker-sandbox"}
    for one in ended:
        assert re.fullmatch(r"[0-9a-f-]{36}", one["correlation_id"])
        assert re.fullmatch(r"[0-9a-f]{32}", one["trace"]["id"])
        assert one["tenant_id"] == one["context"]["tenant_id"]
        assert one["log"] == {
            "iostream": "stdout",
            "level": "info",
            "logger": "csb_core.worker.recorder",
        }
        assert one["@timestamp"][:-1] < one["event"]["created"]
    refused = [one["context"] for one in ended if one["context"].get("code") == "AccessDenied"]
    assert re.fullmatch(r"[0-9a-f-]{36}", refused[0]["refs"]["aws_request_id"][-1])


def test_a_line_that_the_runtime_split_is_whole_again() -> None:
    one = saying("http.request_crashed")
    assert len(one["error"]["stack_trace"]) > 2 * services.RUNTIME_SPLITS_AT
    assert "exception" not in one["context"]
    assert saying("between the parts, on the other stream")["log"]["iostream"] == "stderr"


def test_text_and_values_that_are_no_objects_stay_as_they_are() -> None:
    messages = [one["message"] for one in of_bad()]
    start = messages.index("Traceback (most recent call last):")
    assert messages[start + 3] == "ModuleNotFoundError: No module named 'nowhere'"
    for kept in ("12345", '"a text"', "[1, 2]", "null", "true", '{"level": "INFO", "mess', "{}"):
        assert saying(kept)["service"]["name"] == "api-service"
    assert saying("    four spaces before, and a tab\tin")
    assert messages.count("") == 2
    assert messages.count("alike") == 2
    assert saying("a line that no runtime writes")["@timestamp"]
    assert saying("the end of this line never came")


def test_what_nobody_can_store_is_made_storable() -> None:
    odd = saying("odd.values")["context"]
    assert odd["huge"] == "123456789012345678901234567890"
    assert odd["deep"] == [{"huge": "-99999999999999999999"}]
    assert odd["endless"] == "Infinity"
    assert odd["half"] == "\ufffd end"
    assert saying("broken \ufffd\ufffd bytes")
    assert saying("grüße 😀")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"\ud83d\ude00", "😀"),
        (r"\ud83d", "\ufffd"),
        (r"\ude00", "\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\\ud83d", r"\ud83d"),
        (r"\\\ud83d", "\\\ufffd"),
    ],
)
def test_half_a_character_costs_a_line_nothing_else(written: str, read: str) -> None:
    line = (
        '{"timestamp":"2026-01-01T00:00:00.000Z","level":"INFO","service":"api-service",'
        '"logger":"x","message":"said","context":{"it":"' + written + '"}}'
    )
    assert become(line.encode())["context"] == {"it": read}


def test_no_line_says_where_it_is_kept_or_whose_it_is() -> None:
    (one,) = (one for one in golden() if '"msg":"hello"' in one.document["message"])
    assert one.index == "logs-csecbridge.api_service-production"
    said = one.document
    assert said["data_stream"]["dataset"] == "csecbridge.api_service"
    assert said["kubernetes"]["pod"]["name"] == _BAD
    assert said["service"]["name"] == "api-service"
    assert said["@timestamp"] == said["event"]["created"]
    assert said["context"]["json"]["log"] == 7
    assert set(said["context"]) == {"json"}


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "yesterday"},
        {"timestamp": 1},
        {"service": {"name": "x"}},
        {"message": None},
        {"context": "none"},
    ],
)
def test_only_what_has_the_whole_shape_is_a_line_of_ours(change: Mapping[str, Any]) -> None:
    line: dict[str, Any] = {
        "timestamp": "2026-01-01T00:00:00.000Z",
        "level": "INFO",
        "service": "api-service",
        "logger": "x",
        "message": "said",
        "context": {"n": 1},
    }
    assert become(json.dumps(line).encode())["context"] == {"n": 1}
    odd = become(json.dumps({**line, **change}).encode())
    assert odd["context"] == {"json": {**line, **change}}
    assert odd["message"] == json.dumps({**line, **change})


def test_a_text_of_any_length_fits_into_a_chunk() -> None:
    one = become(b"x" * 200_000, stream="stderr")
    assert one["message"].startswith("x" * 131_072)
    assert one["message"].endswith(" ... 68928 characters left out")


def test_names_of_labels_make_no_objects_of_each_other() -> None:
    labels = become(b"said")["kubernetes"]["labels"]
    assert labels["app"] == "csb"
    assert labels["app_kubernetes_io/component"] == "api-service"


def test_a_pod_that_the_cluster_has_forgotten_is_known_by_its_file() -> None:
    (one,) = (one for one in golden() if one.document["message"] == "0001 applied")
    assert one.index == "logs-csecbridge.migrations-production"
    assert one.document["kubernetes"]["container"] == {"name": "migrations"}
    assert "labels" not in one.document["kubernetes"]


def test_indexes_have_names_that_elasticsearch_takes() -> None:
    for one in golden():
        assert re.fullmatch(r"logs-csecbridge\.[a-z0-9_]{1,64}-production", one.index)
        stream = one.document["data_stream"]
        assert one.index == f"{stream['type']}-{stream['dataset']}-{stream['namespace']}"


@pytest.mark.parametrize(
    ("setting", "instead"),
    [
        ('separator ""', 'separator "\\n"'),
        ("stream_identity_key stream", "stream_identity_key logtag"),
        ("emit_unmatched_lines true", "emit_unmatched_lines false"),
        ("read_from_head true", "read_from_head false"),
        ("write_operation create", "write_operation index"),
        ("id_key $.event.id", "id_key $.event.id\n    remove_keys event"),
        ("@type concat", "@type concat_of_ours"),
        ("timeout_label @WHOLE", "timeout_label @ERROR"),
    ],
)
def test_a_setting_that_is_not_known_here_fails(
    setting: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = text(pipeline.FILES / "fluent.conf")
    assert shipped.count(f"{setting}\n") == 1
    changed = shipped.replace(f"{setting}\n", f"{instead}\n")
    monkeypatch.setattr(pipeline, "shipped", lambda: changed)
    with pytest.raises((ValueError, KeyError)):
        pipeline.stored(pipeline.golden_files(), pipeline.pods())


def test_the_store_waits_for_elasticsearch_and_never_forgets() -> None:
    config = fluentd.read(pipeline.shipped(), pipeline.ENVIRONMENT)
    match = config.one("label", "@STORE").one("match")
    buffer = match.one("buffer")
    assert buffer.kind == "file"
    assert buffer.said["retry_forever"] == "true"
    assert buffer.said["overflow_action"] == "block"
    assert buffer.said["total_limit_size"] == "2048m"
    # With pauses that grow, where Elasticsearch says that it has too much to do.
    again = json.loads(match.said["unrecoverable_error_types"])
    assert {"es_rejected_execution_exception", "cluster_block_exception"} <= set(again)
    assert match.said["verify_es_version_at_startup"] == "false"
    # It asks for single documents again by their position, and is one off after it has cut a chunk.
    assert "bulk_message_request_threshold" not in match.said
    # What is asked for again comes back in at the label's door: no filter may stand behind it.
    assert config.one("label", "@STORE").all("filter") == []


def test_certificates_are_verified() -> None:
    config = fluentd.read(pipeline.shipped(), pipeline.ENVIRONMENT)
    match = config.one("label", "@STORE").one("match")
    assert match.said["ssl_verify"] == "true"
    assert match.said["ca_file"] == "/etc/csb-elasticsearch/ca.crt"
    assert match.said["ssl_min_version"] == "TLSv1_2"
    (asks,) = (s for s in config.one("label", "@WHOLE").all("filter") if "kubernetes_" in s.kind)
    assert "verify_ssl" not in asks.said  # its default is true
