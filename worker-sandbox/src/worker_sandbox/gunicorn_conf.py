"""The sandbox worker is run as every worker is, with defaults of its own."""

from __future__ import annotations

from csb_core.config import load
from csb_core.worker.gunicorn_conf import *  # noqa: F403 - gunicorn reads this module's names
from worker_sandbox.settings import SandboxWorkerSettings

_settings = load(SandboxWorkerSettings)

bind = [_settings.bind, _settings.metrics_bind]
workers = _settings.processes
proc_name = _settings.service
