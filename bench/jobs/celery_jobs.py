"""Celery with Redis as its broker and PostgreSQL for results: the app, and Flask in front of it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from flask import Flask, Response, request

jobs = Celery("bench", broker=os.environ["BENCH_REDIS_URL"], backend=os.environ["BENCH_RESULTS"])
jobs.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    # Under gevent every greenlet gets a backend of its own, and each would make the tables anew:
    # requests would wait for one another for seconds. `main` makes them instead.
    database_create_tables_at_setup=False,
)


def _perform(job: Any) -> dict[str, bool]:
    """Do nothing."""
    del job
    return {"attached": True}


perform = jobs.task(name="perform")(_perform)


def _say_ready(**_: Any) -> None:
    print("celery is ready", flush=True)


worker_ready.connect(_say_ready, weak=False)

app = Flask(__name__, static_folder=None)


def accept() -> Response:
    """Enqueue what was posted."""
    told = {"correlation_id": perform.delay(request.get_json()).id, "status": "PENDING"}
    return Response(json.dumps(told), status=202, mimetype="application/json")


def health() -> Response:
    """Answer that the process is alive."""
    return Response(b"ok")


app.add_url_rule("/api/v1/requests", view_func=accept, methods=["POST"])
app.add_url_rule("/health", view_func=health)


def main() -> None:
    """Make the tables, then enqueue so many jobs; the job comes by standard input."""
    jobs.backend.ResultSession().close()
    job = json.load(sys.stdin)
    for _ in range(int(sys.argv[1])):
        perform.delay(job)


if __name__ == "__main__":
    main()
