"""Ask the service of this image whether it is alive; Docker's HEALTHCHECK runs it.

Kubernetes asks by itself. Of the standard library alone, so that it costs little each time.
"""

from __future__ import annotations

import os
from http.client import HTTPConnection, HTTPException
from typing import Final

_PATIENCE: Final = 4.0


def main() -> int:
    """0 when /health answers 200, else 1."""
    port = int(os.environ["CSB_BIND"].rpartition(":")[2])
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/health")
        return int(connection.getresponse().status != 200)
    except (OSError, HTTPException):
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
