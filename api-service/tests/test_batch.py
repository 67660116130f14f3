"""POST /api/v1/requests/batch: many at once, each with a result of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import psycopg
import redis
from flask.testing import FlaskClient

from csb_core import keys
from csb_core.testing import Database, make_payload

URL = "/api/v1/requests/batch"


def test_batch_is_one_transaction_and_one_publish(
    client: FlaskClient, database: Database, redis_url: str
) -> None:
    asked = [make_payload(client_request_id=f"INC-{n}") for n in range(1000)]

    answered = client.post(URL, json={"requests": asked})

    assert answered.status_code == 202
    document = answered.get_json()
    assert (document["accepted"], document["refused"]) == (1000, 0)
    named = [result["request"]["client_request_id"] for result in document["results"]]
    assert named == [payload["client_request_id"] for payload in asked]
    with psycopg.connect(database.superuser) as conn:
        row = conn.execute(
            "SELECT count(*), count(DISTINCT xmin::text) FROM csb_app.csb_requests"
        ).fetchone()
        assert row == (1000, 1)
    with redis.Redis.from_url(redis_url) as store:
        assert store.llen(keys.queue("aws")) == 1000


def test_each_item_has_its_own_result(client: FlaskClient) -> None:
    asked = [
        make_payload(client_request_id="INC-1"),
        make_payload(client_request_id="INC-1"),
        make_payload(client_request_id="INC-1", dry_run=True),
        make_payload(action="atach_policy"),
        make_payload(account_id="999988887777"),
        make_payload(),
        {},
        "no object",
    ]

    answered = client.post(URL, json={"requests": asked})

    assert answered.status_code == 207
    document = answered.get_json()
    results = document["results"]
    assert [r["http_status"] for r in results] == [202, 200, 409, 422, 403, 202, 422, 422]
    assert [r["index"] for r in results] == list(range(8))
    assert (document["accepted"], document["refused"]) == (3, 5)
    assert results[0]["request"]["correlation_id"] == results[1]["request"]["correlation_id"]
    assert results[3]["problem"]["errors"][0]["hint"] == "did you mean 'attach_policy'?"
    [fault] = results[7]["problem"]["errors"]
    assert fault == {"pointer": "", "message": "A request must be an object."}


def test_shape_of_the_batch_is_checked(client: FlaskClient) -> None:
    def pointers(body: object) -> list[str]:
        answered = client.post(URL, json=body)
        assert answered.status_code == 422
        return [error["pointer"] for error in answered.get_json()["errors"]]

    assert pointers({"requests": []}) == ["/requests"]
    assert pointers({"requests": [{}] * 1001}) == ["/requests"]
    assert pointers([make_payload()]) == [""]
    assert pointers({"requests": [1], "more": 1}) == ["/more"]


def test_batch_takes_no_idempotency_key(client: FlaskClient) -> None:
    answered = client.post(
        URL, json={"requests": [make_payload()]}, headers={"Idempotency-Key": "INC-1"}
    )
    assert answered.status_code == 400


def test_batch_may_be_larger_than_a_single_body(client: FlaskClient) -> None:
    padded = b'{"requests": [' + b" " * 2_000_000 + b"]}"
    too_large = b'{"requests": [' + b" " * 9_000_000 + b"]}"

    assert client.post(URL, data=padded, content_type="application/json").status_code == 422
    assert client.post(URL, data=too_large, content_type="application/json").status_code == 413


def test_batch_without_postgresql_is_a_503(
    client: FlaskClient, postgres_away: Callable[[], AbstractContextManager[None]]
) -> None:
    assert client.get("/api/v1/requests").status_code == 200
    with postgres_away():
        answered = client.post(URL, json={"requests": [make_payload(), make_payload()]})
    if answered.status_code == 207:  # a connection died under the statement
        problems = [result["problem"] for result in answered.get_json()["results"]]
        assert {problem["outcome"] for problem in problems} == {"unknown"}
    else:
        assert answered.status_code == 503
        assert "Retry-After" in answered.headers
