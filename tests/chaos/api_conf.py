"""The API's own gunicorn configuration, in processes that can be struck."""

from __future__ import annotations

from typing import Any

from tests.chaos import points, striking

from api_service import gunicorn_conf
from api_service.gunicorn_conf import *  # noqa: F403 - gunicorn reads this module's names


def post_worker_init(worker: Any) -> None:
    """Lay the points, then do what production does."""
    striking.install(points.API)
    gunicorn_conf.post_worker_init(worker)
