"""The sandbox worker is run as every worker is, with defaults of its own."""

from __future__ import annotations

from csb_core.starting import settings_or_end
from csb_core.worker.gunicorn_conf import *  # noqa: F403 - gunicorn reads this module's names
from worker_sandbox.settings import SandboxWorkerSettings

_settings = settings_or_end(SandboxWorkerSettings)

bind = [_settings.bind, _settings.metrics_bind]
workers = _settings.processes
proc_name = _settings.service
