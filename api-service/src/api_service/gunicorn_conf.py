"""gunicorn's configuration of the API: `-c python:api_service.gunicorn_conf`.

gevent patches the standard library in each worker after the fork, and psycopg chooses when it is
imported how it waits: so the master must import neither psycopg nor redis, and never the app.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, cast

from csb_core import metrics_dir
from csb_core.config import ApiSettings
from csb_core.errors import ConfigurationError
from csb_core.starting import settings_or_end

if TYPE_CHECKING:
    from flask import Flask
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

    from api_service.deps import Deps

_settings = settings_or_end(ApiSettings)

bind = [_settings.bind, _settings.metrics_bind]
workers = _settings.api_processes
worker_class = "api_service.gunicorn_worker.ApiWorker"
worker_connections = 1000
keepalive = 5
timeout = 60
graceful_timeout = 35  # above the longest ?wait=, though waits are cut short at SIGTERM
proc_name = _settings.service
logger_class = "csb_core.gunicorn_log.GunicornLog"
loglevel = _settings.log_level.lower()
accesslog = "-"
control_socket_disable = True


def on_starting(server: Arbiter) -> None:
    """Prepare the place of the metrics, before any process writes there."""
    if server.cfg.preload_app:
        raise ConfigurationError("the API must not be preloaded: its pools open after the fork")
    metrics_dir.prepare(_settings.service)


def post_worker_init(worker: Worker) -> None:
    """Keep what lives as long as the process out of the collector's rounds; mind the end."""
    gc.collect()
    gc.freeze()
    _deps_of(worker).end_waits_when(lambda: not worker.alive)


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Let go of every connection, once the last call is answered.

    A process whose master is gone leaves in the middle of its calls, and is still `alive`. They
    get no answer, which is true; closing what they work with would make it a false one.
    """
    del server
    if hasattr(worker, "wsgi") and not worker.alive:
        _deps_of(worker).close()


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Forget the gauges of a process that has ended."""
    del server
    metrics_dir.child_exit(int(worker.pid))


def on_exit(server: Arbiter) -> None:
    """Leave no file behind."""
    del server
    metrics_dir.remove()


def _deps_of(worker: Worker) -> Deps:
    deps: Deps = cast("Flask", worker.wsgi).extensions["csb"]
    return deps
