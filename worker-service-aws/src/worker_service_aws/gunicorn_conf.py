"""The AWS worker is run as every worker is."""

from __future__ import annotations

from csb_core.worker.gunicorn_conf import *  # noqa: F403 - gunicorn reads this module's names
