"""What a Fluentd speaks with while it is tried: a cluster's API, and a busy Elasticsearch."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.logs.pipeline import Pods

Json = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class StandIns:
    """Both, with what they know and what they were sent."""

    pods: Pods
    cluster: int = 0
    elasticsearch: int = 0
    #: For so many documents Elasticsearch has no time when they first come.
    busy: int = 20
    #: Id -> index and document, for what it has taken.
    taken: dict[str, tuple[str, Json]] = field(default_factory=dict)
    #: What should not have been asked of them.
    faults: list[str] = field(default_factory=list)

    def of_cluster(self, path: str) -> tuple[int, Json]:
        """Answer a question to the cluster's API; the collector may ask for pods of a namespace."""
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/api/v1":
            named = {"name": "pods", "singularName": "", "namespaced": True, "kind": "Pod"}
            kinds = {"kind": "APIResourceList", "groupVersion": "v1", "resources": [named]}
            return 200, kinds
        folder, _, name = path.rpartition("/")
        if folder != "/api/v1/namespaces/csb-app/pods":
            self.faults.append(f"the cluster was asked for {path}")
            return 403, {"kind": "Status", "status": "Failure", "code": 403}
        if name not in self.pods:
            return 404, {"kind": "Status", "status": "Failure", "code": 404}
        return 200, _pod(name, self.pods[name])

    def of_elasticsearch(self, lines: list[bytes]) -> Json:
        """Answer a bulk request: what is new is taken, what is there is told so."""
        items = [self._take(json.loads(a), b) for a, b in zip(lines[::2], lines[1::2], strict=True)]
        return {"took": 1, "errors": any("error" in one["create"] for one in items), "items": items}

    def _take(self, action: Json, document: bytes) -> Json:
        if set(action) != {"create"}:
            self.faults.append(f"Elasticsearch was told to do {action}")
        key = action["create"]["_id"]
        if self.busy > 0:
            self.busy -= 1
            # One that Fluentd sends again as a whole, and one that it sends again alone.
            kind = "es_rejected_execution_exception" if self.busy % 8 else "a_passing_exception"
            error = {"type": kind, "reason": "busy"}
            return {"create": {"_id": key, "status": 429, "error": error}}
        if key in self.taken:
            error = {"type": "version_conflict_engine_exception", "reason": "it is there"}
            return {"create": {"_id": key, "status": 409, "error": error}}
        self.taken[key] = (action["create"]["_index"], json.loads(document))
        return {"create": {"_id": key, "status": 201}}


def _pod(name: str, known: Json) -> Json:
    """A pod as the cluster's API shows it, of what the metadata filter makes of it."""
    image = known["container_image"]
    container = {"name": known["container_name"], "image": image}
    status = {**container, "imageID": "", "containerID": ""}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "csb-app",
            "uid": known["pod_id"],
            "labels": known["labels"],
        },
        "spec": {"nodeName": known["host"], "containers": [container]},
        "status": {"podIP": known["pod_ip"], "containerStatuses": [status]},
    }


@contextmanager
def standing_in(pods: Pods, certificate: Path, key: Path) -> Iterator[StandIns]:
    """Both, behind TLS, on ports of their own."""
    both = StandIns(pods=pods)

    class Cluster(_Answers):
        def do_GET(self) -> None:
            self.answer(*both.of_cluster(self.path))

    class Elasticsearch(_Answers):
        def do_GET(self) -> None:
            self.answer(200, {"version": {"number": "8.19.0", "build_flavor": "default"}})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, both.of_elasticsearch(body.splitlines()))

    with ExitStack() as stack:
        both.cluster = stack.enter_context(_served(Cluster, certificate, key))
        both.elasticsearch = stack.enter_context(_served(Elasticsearch, certificate, key))
        yield both


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, status: int, document: Json) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Elastic-Product", "Elasticsearch")  # its client asks for that
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def _served(answers: type[_Answers], certificate: Path, key: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
