"""POST /api/v1/utils/{id}/execute is POST /api/v1/requests by another path: one line, one row."""

from __future__ import annotations

from typing import Any

import orjson
import redis
from flask.testing import FlaskClient

from csb_core import keys

UTILS = "/api/v1/utils"
REQUESTS = "/api/v1/requests"
CODE = "def transform(data):\n    return data\n"


def body(**more: Any) -> dict[str, Any]:
    return {
        "name": "echo",
        "description": "Gives back what it gets.",
        "kind": "transformer",
        "code": CODE,
        **more,
    }


def test_thin(client: FlaskClient, redis_url: str) -> None:
    made = client.post(UTILS, json=body())
    assert made.status_code == 201, made.text
    util_id = made.get_json()["util_id"]
    done = client.post(f"{UTILS}/{util_id}/execute", json={"input": {"a": 1}})
    assert done.status_code == 202, done.text
    print(done.get_json())
    assert client.get(done.headers["Location"]).get_json()["util"]["version"] == 1
