#!/usr/bin/env python3
"""kubectl's and Helm's credential: GitHub's OIDC token, asked for anew whenever it runs out.

oidc_credential.py AUDIENCE prints an ExecCredential; the token is good for AUDIENCE alone. It is
written to standard output and nowhere else.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """0 with the credential on standard output, else 1 with the reason on standard error."""
    if len(argv) != 2 or not argv[1]:
        print("oidc_credential: name the audience", file=sys.stderr)
        return 1
    try:
        print(json.dumps(credential(token(argv[1], environ))))
    except KeyError as exc:
        print(f"oidc_credential: {exc} is missing: permit id-token: write", file=sys.stderr)
    except (URLError, ValueError) as exc:
        print(f"oidc_credential: GitHub gave no token: {exc}", file=sys.stderr)
    else:
        return 0
    return 1


def token(audience: str, environ: Mapping[str, str]) -> str:
    """Ask GitHub who we are. Raises KeyError, URLError, ValueError."""
    url = f"{environ['ACTIONS_ID_TOKEN_REQUEST_URL']}&{urlencode({'audience': audience})}"
    bearer = {"Authorization": f"bearer {environ['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    with urlopen(Request(url, headers=bearer), timeout=30) as answer:
        value = json.load(answer).get("value")
    if not isinstance(value, str):
        raise ValueError("its answer has no value")  # noqa: TRY004 - of the answer, not of a type
    return value


def credential(token: str) -> dict[str, Any]:
    """What Kubernetes' clients want of a program that brings a credential."""
    ends = datetime.fromtimestamp(claims(token).get("exp", 0), UTC)
    status = {"token": token, "expirationTimestamp": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
    version = "client.authentication.k8s.io/v1"
    return {"apiVersion": version, "kind": "ExecCredential", "status": status}


def claims(token: str) -> dict[str, Any]:
    """What a token says; whoever gets it checks its signature. Raises ValueError."""
    _, part, _ = token.split(".")
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv, os.environ))
