"""What gunicorn serves: `gunicorn -c python:api_service.gunicorn_conf api_service.wsgi:app`."""

from __future__ import annotations

from api_service.app import create_app
from csb_core.config import ApiSettings, load

app = create_app(load(ApiSettings))
