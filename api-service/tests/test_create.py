"""POST /api/v1/requests: what is accepted becomes a row and a message, once."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import orjson
import pytest
import redis
from flask.testing import FlaskClient

from csb_core import keys
from csb_core.contract import digest_of
from csb_core.testing import make_payload

URL = "/api/v1/requests"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def messages(redis_url: str) -> list[Any]:
    with redis.Redis.from_url(redis_url) as store:
        return [orjson.loads(raw) for raw in store.lrange(keys.queue("aws"), 0, -1)]


def test_accepted_request_is_a_row_and_a_message(client: FlaskClient, redis_url: str) -> None:
    payload = make_payload(client_request_id="INC-1")

    answered = client.post(URL, json=payload, headers={"traceparent": TRACEPARENT})

    assert answered.status_code == 202
    receipt = answered.get_json()
    assert receipt["status"] == "PENDING"
    assert receipt["client_request_id"] == "INC-1"
    assert answered.headers["Location"] == f"{URL}/{receipt['correlation_id']}"
    assert receipt["links"]["cancel"] == f"{URL}/{receipt['correlation_id']}/cancel"

    shown = client.get(answered.headers["Location"]).get_json()
    assert shown["principal"] == payload["principal"]
    assert shown["requested_by"] == client.environ_base["HTTP_X_AUTH_TOKEN"][4:16]

    [message] = messages(redis_url)
    assert message["correlation_id"] == receipt["correlation_id"]
    assert message["payload"] == payload
    assert message["digest"] == digest_of(payload)
    assert message["traceparent"].startswith(TRACEPARENT[:36])


def test_same_body_under_the_same_key_is_the_same_request(
    client: FlaskClient, redis_url: str
) -> None:
    payload = make_payload(client_request_id="INC-1")
    first = client.post(URL, json=payload)
    again = client.post(URL, json=payload)
    by_header = client.post(URL, json=make_payload(), headers={"Idempotency-Key": "INC-1"})
    quoted = client.post(URL, json=make_payload(), headers={"Idempotency-Key": '"INC-1"'})

    assert [r.status_code for r in (first, again, by_header, quoted)] == [202, 200, 200, 200]
    ids = {r.get_json()["correlation_id"] for r in (first, again, by_header, quoted)}
    assert len(ids) == 1
    assert len(messages(redis_url)) == 1


def test_other_body_under_the_same_key_is_a_conflict(client: FlaskClient) -> None:
    client.post(URL, json=make_payload(client_request_id="INC-1"))
    answered = client.post(URL, json=make_payload(client_request_id="INC-1", dry_run=True))

    assert answered.status_code == 409
    assert answered.get_json()["code"] == "client_request_id_reused"


def test_keys_of_header_and_field_must_be_alike(client: FlaskClient) -> None:
    payload = make_payload(client_request_id="INC-1")
    unlike = client.post(URL, json=payload, headers={"Idempotency-Key": "INC-2"})
    alike = client.post(URL, json=payload, headers={"Idempotency-Key": "INC-1"})
    unfit = client.post(URL, json=payload, headers={"Idempotency-Key": "two words"})

    assert unlike.status_code == 400
    assert unlike.get_json()["code"] == "idempotency_keys_differ"
    assert alike.status_code == 202
    assert unfit.status_code == 400


@pytest.mark.parametrize(
    "key", ['""', '"', '"INC-1', '"INC"1"', '"two words"', '"a\\b"', '"a";x=1']
)
def test_quoted_key_is_a_whole_string(client: FlaskClient, key: str) -> None:
    answered = client.post(URL, json=make_payload(), headers={"Idempotency-Key": key})
    assert answered.status_code == 400
    assert "in double quotes" in answered.get_json()["detail"]


@pytest.mark.parametrize(
    ("header", "key"),
    [("INC-1", "INC-1"), ('"INC-1"', "INC-1"), ('"a\\"b\\\\c"', 'a"b\\c'), ('a"b', 'a"b')],
)
def test_key_may_be_bare_or_quoted(client: FlaskClient, header: str, key: str) -> None:
    answered = client.post(URL, json=make_payload(), headers={"Idempotency-Key": header})
    assert answered.status_code == 202
    assert answered.get_json()["client_request_id"] == key


def test_keys_of_two_tenants_do_not_meet(
    client: FlaskClient, client_of: Callable[..., FlaskClient], new_tenant: Callable[..., Any]
) -> None:
    payload = make_payload(client_request_id="INC-1")
    mine = client.post(URL, json=payload)
    theirs = client_of(new_tenant()).post(URL, json=payload)

    assert theirs.status_code == 202
    assert theirs.get_json()["correlation_id"] != mine.get_json()["correlation_id"]


def test_unregistered_account_is_refused(client: FlaskClient, redis_url: str) -> None:
    answered = client.post(URL, json=make_payload(account_id="999988887777"))

    assert answered.status_code == 403
    assert answered.get_json()["code"] == "account_not_registered"
    assert "999988887777" in answered.get_json()["detail"]
    assert messages(redis_url) == []


def test_request_is_accepted_without_redis(
    make_app: Callable[..., Any], settings: Any, tenant: Any
) -> None:
    app = make_app(redis_url=type(settings.redis_url)("redis://127.0.0.1:1/0"))
    client = app.test_client()
    headers = {"X-Auth-Token": tenant.token}

    accepted = client.post(URL, json=make_payload(), headers=headers)
    shown = client.get(accepted.headers["Location"], headers=headers)
    ready = client.get("/ready")

    assert accepted.status_code == 202
    assert shown.status_code == 200
    assert shown.headers["X-Cache"] == "miss"
    assert ready.status_code == 200
    assert ready.get_json()["status"] == "degraded"
    assert ready.get_json()["checks"]["redis"]["status"] == "down"


def test_nothing_is_accepted_without_postgresql(
    client: FlaskClient, postgres_away: Callable[[], AbstractContextManager[None]]
) -> None:
    assert client.get(URL).status_code == 200
    with postgres_away():
        refused = client.post(URL, json=make_payload(client_request_id="INC-1"))
        ready = client.get("/ready")
    deadline = time.monotonic() + 5  # a probe has to see that it is back
    accepted = client.post(URL, json=make_payload(client_request_id="INC-1"))
    while accepted.status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
        accepted = client.post(URL, json=make_payload(client_request_id="INC-1"))

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.get_json()["code"] in {"store_unavailable", "outcome_unknown"}
    assert ready.status_code == 503
    assert ready.get_json()["checks"]["postgresql"]["status"] == "down"
    assert accepted.status_code in {200, 202}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_json"),
        (b"", "application/json", 400, "malformed_json"),
        (b"\xff", "application/json", 400, "malformed_json"),
        (b"[" * 65 + b"]" * 65, "application/json", 400, "json_too_deep"),
        (b"[" * 100_000, "application/json", 400, "json_too_deep"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", None, 415, "unsupported_media_type"),
        (b"[]", "application/json", 422, "invalid_body"),
        (b"{}", "application/json", 422, "invalid_body"),
        (b'"' + b"x" * 1_100_000 + b'"', "application/json", 413, "body_too_large"),
        (b'{"a": NaN}', "application/json", 422, "invalid_body"),
        (b'{"a": "\\u0000"}', "application/json", 422, "invalid_body"),
        (b'{"a": "\\ud800"}', "application/json", 422, "invalid_body"),
    ],
)
def test_what_is_no_request_is_told_so(
    client: FlaskClient, body: bytes, content_type: str | None, status: int, code: str
) -> None:
    answered = client.post(URL, data=body, content_type=content_type)

    assert answered.status_code == status, answered.text
    assert answered.mimetype == "application/problem+json"
    problem = answered.get_json()
    assert problem["code"] == code
    assert ("1,048,576 bytes" in problem["detail"]) == (status == 413)
    assert problem["type"] == f"urn:csb:problem:{code}"
    assert problem["request_id"] == answered.headers["X-Request-ID"]


def test_every_fault_is_told_at_once(client: FlaskClient) -> None:
    answered = client.post(
        URL, json=make_payload(action="atach_policy", account_id="12", dry_runn=True)
    )

    errors = {error["pointer"]: error for error in answered.get_json()["errors"]}
    assert answered.status_code == 422
    assert errors["/action"]["hint"] == "did you mean 'attach_policy'?"
    assert errors["/dry_runn"]["hint"] == "did you mean 'dry_run'?"
    assert "12 digits" in errors["/account_id"]["message"]


@pytest.mark.parametrize("path", [URL, f"{URL}/batch"])
def test_what_stands_in_the_query_is_not_passed_over(client: FlaskClient, path: str) -> None:
    answered = client.post(f"{path}?dry_run=true", json=make_payload())
    assert answered.status_code == 400
    assert "no query parameter 'dry_run' here" in answered.get_json()["detail"]


def test_compressed_body_is_told_to_be_sent_as_it_is(client: FlaskClient) -> None:
    packed = gzip.compress(orjson.dumps(make_payload()))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answered = client.post(URL, data=packed, headers=headers)
    assert answered.status_code == 415
    assert "without a Content-Encoding" in answered.get_json()["detail"]
    plain = client.post(URL, json=make_payload(), headers={"Content-Encoding": "Identity"})
    assert plain.status_code == 202
