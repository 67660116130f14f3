"""Run a local AWS: `python -m worker_service_aws.local_aws --port 4566 --seed seed.json`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from worker_service_aws.local_aws.demo_seed import demo_seed
from worker_service_aws.local_aws.server import local_aws


def main() -> None:
    """Serve until SIGTERM or SIGINT; the ready line on standard output carries the address."""
    parser = argparse.ArgumentParser(prog="local_aws", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seed", type=Path, help="without it: the accounts of the demo")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)

    seed: dict[str, Any] = json.loads(options.seed.read_text()) if options.seed else demo_seed({})
    server = local_aws(seed, port=options.port, host=options.host)
    for name in (signal.SIGTERM, signal.SIGINT):
        # Nothing here outlives the process, so nothing is waited for.
        signal.signal(name, lambda *_: os._exit(0))
    sys.stdout.write(f"local_aws ready http://{options.host}:{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
