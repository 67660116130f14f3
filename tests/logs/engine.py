"""A real Elasticsearch on this machine's loopback: TLS, users with the shipped roles, one node."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.house import ROOT

from csb_core.local.ports import free_port

TOOLS: Final = Path(os.environ.get("CSB_TOOLS_DIR") or ROOT / ".run/tools") / "engine"
SHIPPED: Final = ROOT / "helm/observability/files/search"
PASSWORD: Final = "only-for-tests"
#: Whoever has one of the shipped roles is called like it; this one may do everything.
ROOT_USER: Final = "superuser"


class EngineError(Exception):
    """Elasticsearch refused something, or did not start; the text is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How to reach it."""

    url: str
    authority: Path

    def call(self, method: str, path: str, body: Any = None, *, user: str = ROOT_USER) -> Any:
        """One exchange; raises EngineError with what it said. Text goes as it is, else JSON."""
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if data is None else data.encode(),
            headers={"Content-Type": "application/json", "Authorization": _basic(user)},
        )
        trust = ssl.create_default_context(cafile=self.authority)
        try:
            with urllib.request.urlopen(request, timeout=60, context=trust) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as exc:
            raise EngineError(f"{exc.code} {exc.read().decode()}") from exc

    def create(self, lines: list[tuple[str, str, Mapping[str, Any]]], *, user: str) -> list[Any]:
        """Bring in documents (index, id, document) as the collector does; returns the answers."""
        bulk = "".join(
            json.dumps({"create": {"_index": index, "_id": name}})
            + "\n"
            + json.dumps(document)
            + "\n"
            for index, name, document in lines
        )
        answer = self.call("POST", "/_bulk", bulk, user=user)
        return [item["create"] for item in answer["items"]]


@contextmanager
def started(folder: Path) -> Iterator[Engine]:
    """Start it with its data in `folder`, and end it. Root becomes nobody in a user namespace."""
    assert TOOLS.is_dir(), "Elasticsearch is missing: make tools"
    port = free_port()
    authority = _configure(folder, port)
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
    temporary, log = folder / "tmp", folder / "out"
    temporary.mkdir()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*prefix, str(TOOLS / "elasticsearch/bin/elasticsearch")],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "ES_JAVA_HOME": (TOOLS / "java").read_text().strip(),
                "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
                "ES_PATH_CONF": str(folder / "config"),
                "ES_TMPDIR": str(temporary),
            },
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    engine = Engine(url=f"https://localhost:{port}", authority=authority)
    try:
        _await(engine, process, log)
        yield engine
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # it keeps nothing that anybody wants
        process.wait(30)


def _await(engine: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 100
    while True:
        try:
            engine.call("GET", "/_cluster/health?wait_for_status=yellow&timeout=30s")
        except (OSError, EngineError) as exc:
            if process.poll() is not None or time.monotonic() > until:
                raise EngineError(log.read_text()[-4000:]) from exc
            time.sleep(0.3)
        else:
            return


def _configure(folder: Path, port: int) -> Path:
    """Write its configuration; returns the certificate by which it is to be known."""
    config = folder / "config"
    shutil.copytree(TOOLS / "elasticsearch/config", config)
    write_certificate(config / "certificate.pem", config / "key.pem")
    settings = {
        "cluster.name": "csb",
        "node.name": "one",
        "path.data": str(folder / "data"),
        "path.logs": str(folder / "logs"),
        "discovery.type": "single-node",
        "http.host": "127.0.0.1",
        "http.port": port,
        "transport.host": "127.0.0.1",
        "transport.port": free_port(),
        "xpack.security.enabled": True,
        "xpack.security.transport.ssl.enabled": False,
        "xpack.security.http.ssl.enabled": True,
        "xpack.security.http.ssl.key": "key.pem",
        "xpack.security.http.ssl.certificate": "certificate.pem",
    }
    (config / "elasticsearch.yml").write_text(json.dumps(settings))  # JSON is YAML too
    roles = json.loads((SHIPPED / "roles.json").read_text())
    # It reads a role per paragraph of YAML, which JSON is too.
    (config / "roles.yml").write_text(
        "".join(f"{name}: {json.dumps(role)}\n" for name, role in roles.items())
    )
    names = [*roles, ROOT_USER]
    (config / "users").write_text("".join(f"{name}:{_hashed(PASSWORD)}\n" for name in names))
    (config / "users_roles").write_text("".join(f"{name}:{name}\n" for name in names))
    return config / "certificate.pem"


def write_certificate(certificate: Path, key: Path) -> None:
    """Write a certificate for localhost that vouches for itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=6))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _hashed(password: str) -> str:
    """As Elasticsearch's file of users wants it."""
    salt = secrets.token_bytes(32)
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 10_000, 32)
    return f"{{PBKDF2}}10000${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"


def _basic(user: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{PASSWORD}'.encode()).decode()}"
