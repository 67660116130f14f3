"""The shipped objects of Kibana are fresh, closed and readable, and the import speaks its API."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from tests.house import ROOT
from tests.logs.engine import SHIPPED, write_certificate
from tests.logs.saved import mapped, objects, query_of

GENERATOR: Final = ROOT / "helm/observability/kibana.py"


def test_the_objects_are_what_the_generator_writes() -> None:
    done = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_every_reference_leads_to_an_object_before_it() -> None:
    seen: set[tuple[str, str]] = set()
    for one in objects():
        assert {(ref["type"], ref["id"]) for ref in one["references"]} <= seen, one["id"]
        assert (one["type"], one["id"]) not in seen
        seen.add((one["type"], one["id"]))
    assert {kind for kind, _ in seen} == {"index-pattern", "search", "visualization", "dashboard"}


def test_every_name_of_a_reference_is_used_and_every_use_has_one() -> None:
    for one in objects():
        names = {ref["name"] for ref in one["references"]}
        source = json.loads(
            one["attributes"].get("kibanaSavedObjectMeta", {}).get("searchSourceJSON", "{}")
        )
        used = {source["indexRefName"]} if "indexRefName" in source else set()
        panels = json.loads(one["attributes"].get("panelsJSON", "[]"))
        used |= {f"{panel['panelIndex']}:{panel['panelRefName']}" for panel in panels}
        assert used == names, one["id"]


def test_no_two_panels_of_the_dashboard_lie_on_each_other() -> None:
    (board,) = (one for one in objects() if one["type"] == "dashboard")
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(board["attributes"]["panelsJSON"]):
        place = panel["gridData"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 48, "Kibana's grid has 48 columns"
        assert not cells & taken
        taken |= cells


def test_no_field_is_asked_for_that_is_not_mapped() -> None:
    known = mapped() | {"context.refs.aws_request_id"}
    for one in objects():
        if one["type"] not in {"search", "visualization"}:
            continue
        words = query_of(one["attributes"]).replace("(", " ").replace('"', " ").split()
        asked = {word.partition(":")[0] for word in words if ":" in word} - {"_exists_"}
        asked |= {word.partition(":")[2] for word in words if word.startswith("_exists_:")}
        aggregations = json.loads(one["attributes"].get("visState", "{}")).get("aggs", [])
        asked |= {a["params"]["field"] for a in aggregations if "field" in a["params"]}
        assert asked, one["id"]
        assert asked <= known, one["id"]


def test_the_lifecycle_deletes_and_rolls_over_in_this_order() -> None:
    phases = json.loads((SHIPPED / "policy.json").read_text())["policy"]["phases"]
    ages = [_hours(phase["min_age"]) for phase in phases.values()]
    assert list(phases) == ["hot", "warm", "delete"]
    assert ages == sorted(ages)
    assert phases["delete"]["actions"] == {"delete": {}}
    # Only what has been rolled over moves on, so that no line is deleted before its time.
    assert _hours(phases["hot"]["actions"]["rollover"]["max_age"]) <= 24


def _hours(age: str) -> int:
    return int(age.removesuffix("ms").removesuffix("d")) * (24 if age.endswith("d") else 0)


def test_components_carry_the_names_under_which_they_are_installed() -> None:
    template = json.loads((SHIPPED / "template.json").read_text())
    parts = {p.stem for p in SHIPPED.glob("*.json")} & {"settings", "mappings", "lifecycle"}
    assert set(template["composed_of"]) == {f"csb-logs-{part}" for part in parts}
    assert template["priority"] > 100, "Elasticsearch's own template for logs-*-* has 100"
    lifecycle = json.loads((SHIPPED / "lifecycle.json").read_text())
    assert lifecycle["template"]["settings"]["index.lifecycle.name"] == "csb-logs"


# -- the import, against something that answers as Kibana's API is documented to


@dataclass(slots=True)
class FakeKibana:
    """What it was asked, and what it will answer."""

    url: str
    certificate: Path
    version: str = "9.1.0"
    refuses: str | None = None
    busy: int = 0
    asked: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        self.asked.append((path, headers, body))
        if self.busy:
            self.busy -= 1
            return 503, {"message": "Kibana server is not ready yet"}
        if self.version == "elsewhere":
            return 302, {}
        if path.endswith("/api/status"):
            return 200, {"version": {"number": self.version}}
        if "kbn-xsrf" not in headers:
            return 400, {"message": "Request must contain a kbn-xsrf header."}
        if self.refuses:
            return 200, {"success": False, "errors": [{"error": {"type": self.refuses}}]}
        return 200, {"success": True, "successCount": len(_objects_in(headers, body))}


def _objects_in(headers: Mapping[str, str], body: bytes) -> list[Any]:
    """The objects of the only file of a form."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    form = message_from_bytes(head + body, policy=policy.HTTP)
    (file,) = form.iter_parts()
    assert file.get_param("name", header="content-disposition") == "file"
    assert str(file.get_filename()).endswith(".ndjson"), "Kibana refuses any other name"
    return [json.loads(line) for line in bytes(file.get_payload(decode=True)).splitlines()]


@contextmanager
def _listening(folder: Path) -> Iterator[FakeKibana]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    write_certificate(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            code, said = fake.answer(self.path, headers, self.rfile.read(length))
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "https://elsewhere.example/")
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    fake = FakeKibana(url=f"https://localhost:{server.server_address[1]}", certificate=certificate)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def kibana(tmp_path: Path) -> Iterator[FakeKibana]:
    """A server with TLS on loopback."""
    with _listening(tmp_path) as kibana:
        yield kibana


def _import(kibana: FakeKibana, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", SHIPPED / "install.py"],
        env={
            "KIBANA_URL": kibana.url,
            "ES_CA_FILE": str(kibana.certificate),
            "ES_API_KEY": "only-for-tests",
            "INSTALL_SECONDS": "20",
            **more,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_import_sends_all_objects_over_those_that_are_there(kibana: FakeKibana) -> None:
    done = _import(kibana, KIBANA_SPACE="security")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"imported {len(objects())} objects into Kibana 9.1.0\n"
    path, headers, body = kibana.asked[-1]
    assert path == "/s/security/api/saved_objects/_import?overwrite=true"
    assert headers["authorization"] == "ApiKey only-for-tests"
    assert _objects_in(headers, body) == objects()


def test_the_import_waits_while_kibana_starts(kibana: FakeKibana) -> None:
    kibana.busy = 2
    assert _import(kibana).returncode == 0


def test_kibana_may_have_credentials_of_its_own(kibana: FakeKibana) -> None:
    _import(kibana, KIBANA_USERNAME="kim", KIBANA_PASSWORD="only-for-tests")
    assert kibana.asked[-1][1]["authorization"] == "Basic a2ltOm9ubHktZm9yLXRlc3Rz"


@pytest.mark.parametrize(
    ("version", "refuses", "busy", "said"),
    [
        ("8.7.1", None, 0, "8.8 or newer is needed"),
        ("9.1.0", "missing_references", 0, "missing_references"),
        ("9.1.0", None, 99, "503"),
    ],
)
def test_what_kibana_refuses_is_said_and_fails(
    version: str, refuses: str | None, busy: int, said: str, kibana: FakeKibana
) -> None:
    kibana.version, kibana.refuses, kibana.busy = version, refuses, busy
    done = _import(kibana, INSTALL_SECONDS="1")
    assert done.returncode == 1
    assert said in done.stderr
    assert "only-for-tests" not in done.stderr


def test_credentials_are_sent_to_nobody_whom_an_answer_names(kibana: FakeKibana) -> None:
    kibana.version = "elsewhere"
    done = _import(kibana)
    assert done.returncode == 1
    assert "it sends us on to https://elsewhere.example/" in done.stderr


def test_a_stranger_with_another_certificate_is_told_nothing(
    kibana: FakeKibana, tmp_path: Path
) -> None:
    write_certificate(tmp_path / "other.pem", tmp_path / "other.key")
    done = _import(kibana, ES_CA_FILE=str(tmp_path / "other.pem"))
    assert done.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert kibana.asked == []
