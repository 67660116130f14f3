"""The control endpoints: order faults, read the journal, clear both."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from worker_service_aws.local_aws.call import Environ
from worker_service_aws.local_aws.faults import Faults
from worker_service_aws.local_aws.journal import Journal
from worker_service_aws.local_aws.refusal import Answer


def control(environ: Environ, faults: Faults, journal: Journal) -> Answer:
    """Answer one request under `/_csb/`."""
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/_csb/health":
            return _json("200 OK", {"status": "ok"})
        case "GET", "/_csb/faults":
            return _json("200 OK", {"faults": faults.listed()})
        case "POST", "/_csb/faults":
            return _order(environ, faults)
        case "DELETE", "/_csb/faults":
            faults.clear()
        case "GET", "/_csb/log":
            wanted = dict(parse_qsl(environ.get("QUERY_STRING", "")))
            return _json("200 OK", journal.summary(wanted))
        case "DELETE", "/_csb/log":
            journal.clear()
        case _:
            return _json("404 Not Found", {"error": "no such control"})
    return _json("200 OK", {})


def _order(environ: Environ, faults: Faults) -> Answer:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        faults.order(json.loads(body))
    except (ValueError, TypeError, KeyError) as exc:
        return _json("400 Bad Request", {"error": f"not understood: {exc}"})
    return _json("201 Created", {"faults": faults.listed()})


def _json(status: str, document: dict[str, Any]) -> Answer:
    return Answer(
        status=status,
        headers=(("Content-Type", "application/json"),),
        body=json.dumps(document).encode(),
    )
