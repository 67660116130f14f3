"""Puts the index template into Elasticsearch, and the saved searches and the dashboard into Kibana.

Standard library only; may be run as often as one likes. What it is told by the environment:

ES_URL, KIBANA_URL     where they are; without one of them its half is left out
ES_CA_FILE             the certificates to trust; without it those of the system
ES_API_KEY, or ES_USERNAME and ES_PASSWORD; KIBANA_... likewise where Kibana's differ. A name with
                       _FILE behind it gives a file to read it from
KIBANA_SPACE           into which space; without it the default one
LOG_RETENTION_DAYS     after how many days lines are deleted; without it as policy.json says
LOG_LIFECYCLE          ilm, or none where something else deletes what is old
INSTALL_SECONDS        how long to wait for each of them to answer, 120 if nothing is said

The status is 1 when anything was refused.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any, Final

HERE: Final = Path(__file__).resolve().parent
NAME: Final = "csb-logs"
#: The first Kibana that knows the form in which kibana.ndjson is written.
OLDEST_KIBANA: Final = (8, 8)
JSON: Final = "application/json"
#: They pass while a server starts, or a proxy waits for it.
NOT_YET: Final = (502, 503, 504)


class InstallError(Exception):
    """Something cannot be installed; the text says what, where and why."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Credentials go where they were meant for, and nowhere that an answer names."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        del req, fp, code, msg, headers
        raise InstallError(f"it sends us on to {newurl}: give that address, if it is the right one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Elasticsearch or Kibana: how to reach it, and as whom."""

    url: str
    headers: Mapping[str, str]
    trust: ssl.SSLContext
    until: float

    def call(self, method: str, path: str, body: bytes = b"", kind: str = JSON) -> Any:
        """One exchange, waiting while nobody answers; raises InstallError with what it said."""
        while True:
            try:
                return self._call(method, path, body, kind)
            except OSError as exc:
                late = time.monotonic() > self.until
                if late or not _may_pass(exc):
                    raise InstallError(f"{method} {self.url}{path}: {_said_by(exc)}") from exc
                time.sleep(1)

    def _call(self, method: str, path: str, body: bytes, kind: str) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self.url + path,
            method=method,
            data=body or None,
            # Kibana takes no change without the last: a browser cannot be made to send it.
            headers={**self.headers, "Content-Type": kind, "kbn-xsrf": "csecbridge"},
        )
        opener = urllib.request.build_opener(
            _NoRedirect, urllib.request.HTTPSHandler(context=self.trust)
        )
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)


def _may_pass(exc: OSError) -> bool:
    if isinstance(exc, urllib.error.HTTPError):
        return exc.code in NOT_YET
    return not isinstance(getattr(exc, "reason", exc), ssl.SSLError)


def _said_by(exc: OSError) -> str:
    if isinstance(exc, urllib.error.HTTPError):
        return f"{exc.code} {exc.read(4000).decode(errors='replace')}"
    return str(getattr(exc, "reason", exc))


def server(environ: Mapping[str, str], prefix: str) -> Server | None:
    """The server that variables with this prefix tell of; None when they tell of none."""
    url = environ.get(f"{prefix}_URL", "").rstrip("/")
    if not url:
        return None
    if not url.startswith(("https://", "http://")):
        raise InstallError(f"{prefix}_URL: {url} is no http address")
    try:
        trust = ssl.create_default_context(cafile=environ.get("ES_CA_FILE") or None)
    except OSError as exc:
        raise InstallError(f"ES_CA_FILE: {environ['ES_CA_FILE']}: {exc}") from exc
    return Server(
        url=url,
        headers=_identity(environ, prefix) or _identity(environ, "ES"),
        trust=trust,
        until=time.monotonic() + float(environ.get("INSTALL_SECONDS") or 120),
    )


def _identity(environ: Mapping[str, str], prefix: str) -> dict[str, str]:
    if key := _told(environ, f"{prefix}_API_KEY"):
        return {"Authorization": f"ApiKey {key}"}
    user = _told(environ, f"{prefix}_USERNAME")
    if not user:
        return {}
    pair = f"{user}:{_told(environ, f'{prefix}_PASSWORD')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _told(environ: Mapping[str, str], name: str) -> str:
    path = environ.get(f"{name}_FILE")
    if not path:
        return environ.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise InstallError(f"{name}_FILE: {exc}") from exc


def install_template(elasticsearch: Server, environ: Mapping[str, str]) -> None:
    """Put policy, components and template, each before what names it."""
    if lifecycle_of(environ) == "ilm":
        _put(elasticsearch, f"/_ilm/policy/{NAME}", policy(environ.get("LOG_RETENTION_DAYS")))
        _put(elasticsearch, f"/_component_template/{NAME}-lifecycle", _read("lifecycle.json"))
    for part in ("settings", "mappings"):
        _put(elasticsearch, f"/_component_template/{NAME}-{part}", _read(f"{part}.json"))
    _put(elasticsearch, f"/_index_template/{NAME}", _read("template.json"))


def lifecycle_of(environ: Mapping[str, str]) -> str:
    """`ilm` or `none`; raises InstallError for anything else."""
    lifecycle = environ.get("LOG_LIFECYCLE") or "ilm"
    if lifecycle not in ("ilm", "none"):
        raise InstallError(f"LOG_LIFECYCLE: {lifecycle} is neither ilm nor none")
    return lifecycle


def policy(days: str | None) -> Any:
    """The lifecycle policy, which deletes after so many days."""
    wanted = _read("policy.json")
    if days:
        if not days.isdigit() or int(days) < 3:
            raise InstallError(f"LOG_RETENTION_DAYS: {days} is no number of days from 3 on")
        wanted["policy"]["phases"]["delete"]["min_age"] = f"{int(days)}d"
    return wanted


def _read(name: str) -> Any:
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def _put(elasticsearch: Server, path: str, document: Any) -> None:
    answer = elasticsearch.call("PUT", path, json.dumps(document).encode())
    if answer.get("acknowledged") is not True:
        raise InstallError(f"{path}: not acknowledged: {answer}")
    print("installed", path)


def install_searches(kibana: Server, space: str) -> None:
    """Import all objects, over those of the same names; raises InstallError if one is refused."""
    version = str(kibana.call("GET", "/api/status")["version"]["number"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_KIBANA:
        raise InstallError(f"{kibana.url} is Kibana {version}: 8.8 or newer is needed")
    kind, body = _form("kibana.ndjson", (HERE / "kibana.ndjson").read_bytes())
    path = f"{f'/s/{space}' if space else ''}/api/saved_objects/_import?overwrite=true"
    answer = kibana.call("POST", path, body, kind)
    if not answer.get("success"):
        raise InstallError(f"{path}: {json.dumps(answer.get('errors', answer))}")
    print("imported", answer["successCount"], "objects into Kibana", version)


def _form(name: str, content: bytes) -> tuple[str, bytes]:
    """A form with one file: its type, and its bytes."""
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/ndjson\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body


def install(environ: Mapping[str, str]) -> None:
    """Install what is asked for; raises InstallError at the first thing that is refused."""
    elasticsearch, kibana = server(environ, "ES"), server(environ, "KIBANA")
    if elasticsearch is None and kibana is None:
        raise InstallError("neither ES_URL nor KIBANA_URL is set")
    if elasticsearch is not None:
        install_template(elasticsearch, environ)
    if kibana is not None:
        install_searches(kibana, environ.get("KIBANA_SPACE", ""))


def main(environ: Mapping[str, str]) -> int:
    """Return the status for the shell."""
    try:
        install(environ)
    except InstallError as exc:
        print(f"install: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
