"""gunicorn for the apps that we are compared with: as api_service.gunicorn_conf has it.

BENCH_LOG names the logger class for access lines; without it there are none.
"""

from __future__ import annotations

import gc
import os

bind = os.environ["BENCH_BIND"]
workers = int(os.environ["BENCH_PROCESSES"])
worker_class = "gevent"
worker_connections = 1000
keepalive = 5
timeout = 60
control_socket_disable = True

if os.environ.get("BENCH_LOG"):
    logger_class = os.environ["BENCH_LOG"]
    accesslog = "-"


def post_worker_init(worker: object) -> None:
    """Keep what lives as long as the process out of the collector's rounds."""
    del worker
    gc.collect()
    gc.freeze()
