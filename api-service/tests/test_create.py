"""POST /api/v1/requests: what is accepted becomes a row and a message, once."""

from __future__ import annotations

from csb_core.testing import make_payload
from flask.testing import FlaskClient


def test_accepted_request_is_told_where_it_is(client: FlaskClient) -> None:
    answered = client.post("/api/v1/requests", json=make_payload(client_request_id="INC-1"))

    assert answered.status_code == 202, answered.text
    receipt = answered.get_json()
    assert receipt["status"] == "PENDING"
    assert answered.headers["Location"] == f"/api/v1/requests/{receipt['correlation_id']}"
    shown = client.get(answered.headers["Location"])
    assert shown.status_code == 200
    assert shown.headers["X-Cache"] == "miss"
    assert client.get(answered.headers["Location"]).headers["X-Cache"] == "hit"
    print(shown.headers, shown.text)
