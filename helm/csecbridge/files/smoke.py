"""What `helm test` runs: wait until the API is ready, post a dry run, and follow it to its end.

Standard library only. CSB_URL and SMOKE_SECONDS; with CSB_TOKEN also SMOKE_ACCOUNT,
SMOKE_PRINCIPAL_TYPE and SMOKE_PRINCIPAL. The status is 1 when the end is not SUCCESS.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from typing import Any, Final

POLICY: Final = "arn:aws:iam::aws:policy/ReadOnlyAccess"
FINAL: Final = ("SUCCESS", "FAILED", "CANCELLED")


class SmokeError(Exception):
    """The API did not do what it should; the text says what it did."""


def call(url: str, token: str | None = None, body: Any = None) -> Any:
    """One exchange, in JSON; raises SmokeError with what the API said."""
    headers = {"Content-Type": "application/json"} | ({"X-Auth-Token": token} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - our own API
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as exc:
        said = exc.read().decode(errors="replace")
        raise SmokeError(f"{url}: {exc.code} {said}") from exc
    except OSError as exc:
        raise SmokeError(f"{url}: {exc}") from exc


def until_ready(url: str, until: float) -> None:
    """Ask until the API says that it can serve."""
    while True:
        try:
            said = call(f"{url}/ready")
        except SmokeError:
            if time.monotonic() > until:
                raise
            time.sleep(1)
        else:
            print("ready:", json.dumps(said))
            return


def followed(url: str, token: str, until: float, environ: Mapping[str, str]) -> Any:
    """Post the dry run; return the request once it has ended."""
    principal = {"type": environ["SMOKE_PRINCIPAL_TYPE"], "name": environ["SMOKE_PRINCIPAL"]}
    body = {
        "cloud_provider": "aws",
        "action": "attach_policy",
        "account_id": environ["SMOKE_ACCOUNT"],
        "principal": principal,
        "parameters": {"policy_arn": POLICY},
        "client_request_id": f"smoke-{uuid.uuid4()}",
        "dry_run": True,
    }
    request = call(f"{url}/api/v1/requests", token, body)
    print("accepted:", request["correlation_id"])
    while request["status"] not in FINAL:
        if time.monotonic() > until:
            raise SmokeError(f"it is still {request['status']}")
        request = call(f"{url}/api/v1/requests/{request['correlation_id']}?wait=10", token)
    return request


def main(environ: Mapping[str, str]) -> int:
    """Return the status for the shell."""
    url = environ["CSB_URL"].rstrip("/")
    until = time.monotonic() + float(environ.get("SMOKE_SECONDS", "120"))
    token = environ.get("CSB_TOKEN")
    try:
        until_ready(url, until)
        if not token:
            print("no CSB_TOKEN: only asked whether it is ready")
            return 0
        request = followed(url, token, until, environ)
    except SmokeError as exc:
        print(f"smoke: {exc}", file=sys.stderr)
        return 1
    print("ended:", json.dumps(request))
    return 0 if request["status"] == "SUCCESS" else 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
