"""The credential by which a deployment enters a cluster; GitHub's side of it is played here."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.house import ROOT

PROGRAM = ROOT / ".github/oidc_credential.py"
BEARER = "the-run's-own-secret"


def token(**claims: object) -> str:
    parts = ({"alg": "RS256"}, claims, {"signature": "elsewhere"})
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )


@dataclass(slots=True, kw_only=True)
class GitHub:
    """Gives its answer to whoever shows the secret, and remembers for which audience."""

    answer: object = field(default_factory=lambda: {"value": token(exp=1_900_000_000)})
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def environ(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.port}/token?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": BEARER}


@pytest.fixture
def github() -> Iterator[GitHub]:
    played = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            allowed = self.headers["Authorization"] == f"bearer {BEARER}"
            assert query["api-version"] == ["2.0"]
            played.asked += query["audience"]
            self.send_response(200 if allowed else 403)
            self.end_headers()
            self.wfile.write(json.dumps(played.answer if allowed else {}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        played.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield played
        server.shutdown()
        thread.join()


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_it_is_what_kubernetes_clients_want(github: GitHub) -> None:
    done = run(github.environ(), "https://cluster.example/?a=b&c")
    assert done.returncode == 0, done.stderr
    assert github.asked == ["https://cluster.example/?a=b&c"]
    document = json.loads(done.stdout)
    assert document["kind"] == "ExecCredential"
    assert document["apiVersion"] == "client.authentication.k8s.io/v1"
    assert document["status"] == {
        "token": token(exp=1_900_000_000),
        "expirationTimestamp": "2030-03-17T17:46:40Z",
    }


@pytest.mark.parametrize("answer", [{}, {"value": None}, {"value": "no-token"}, {"value": "a.!.c"}])
def test_what_is_no_token_is_refused(github: GitHub, answer: object) -> None:
    github.answer = answer
    done = run(github.environ(), "cluster")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "oidc_credential: GitHub gave no token" in done.stderr


def test_without_the_right_to_ask_it_says_how_to_get_it(github: GitHub) -> None:
    assert "permit id-token: write" in run({}, "cluster").stderr
    wrong = {**github.environ(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "another"}
    refused = run(wrong, "cluster")
    assert refused.returncode == 1
    assert "403" in refused.stderr
    assert BEARER not in refused.stderr


def test_an_audience_is_needed(github: GitHub) -> None:
    assert run(github.environ()).returncode == 1
    assert run(github.environ(), "").returncode == 1
    assert github.asked == []
