"""The worker's own gunicorn configuration, in processes that can be struck."""

from __future__ import annotations

import sys
from typing import Any

from tests.chaos import points, striking

from csb_core.worker import gunicorn_conf
from csb_core.worker.gunicorn_conf import *  # noqa: F403 - gunicorn reads this module's names


def post_worker_init(worker: Any) -> None:
    """Lay the points, then do what production does."""
    striking.install([point for point in points.WORKER if point.module in sys.modules])
    gunicorn_conf.post_worker_init(worker)
