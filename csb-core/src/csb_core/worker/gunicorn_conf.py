"""gunicorn's configuration of every worker: `-c python:csb_core.worker.gunicorn_conf`.

The master supervises consumer processes; a consumer that dies ends its process, and the master
starts another. At SIGTERM gunicorn drops daemon threads at once, so the exit hook drains first,
and the master's patience lies above the longest deadline.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from csb_core import metrics_dir
from csb_core.config import WorkerSettings
from csb_core.starting import settings_or_end

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

    from csb_core.worker.main import WorkerProcess

_settings = settings_or_end(WorkerSettings)

bind = [_settings.bind, _settings.metrics_bind]
workers = _settings.processes
worker_class = "gthread"
threads = 2
timeout = 120
graceful_timeout = int(_settings.grace_seconds) + 10
proc_name = _settings.service
logger_class = "csb_core.gunicorn_log.GunicornLog"
loglevel = _settings.log_level.lower()
accesslog = None
control_socket_disable = True


def on_starting(server: Arbiter) -> None:
    """Prepare the place of the metrics, before any process writes there."""
    del server
    metrics_dir.prepare(os.environ.get("CSB_SERVICE", _settings.service))


def post_worker_init(worker: Worker) -> None:
    """Start consuming, after the fork and once the app is loaded."""
    _consumer(worker).start()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Drain before the process ends."""
    del server
    if hasattr(worker, "wsgi"):
        _consumer(worker).stop()


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Forget the gauges of a process that has ended."""
    del server
    metrics_dir.child_exit(int(worker.pid))


def on_exit(server: Arbiter) -> None:
    """Leave no file behind."""
    del server
    metrics_dir.remove()


def _consumer(worker: Worker) -> WorkerProcess:
    return cast("WorkerProcess", worker.wsgi)
