"""POST .../cancel and .../replay."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from csb_core import requests
from csb_core.states import Status
from csb_core.testing import make_payload

URL = "/api/v1/requests"
Work = Callable[[str, Status], None]


def test_pending_request_is_cancelled_once(client: FlaskClient) -> None:
    url = client.post(URL, json=make_payload()).headers["Location"]
    client.get(url)  # now it is cached as PENDING

    cancelled = client.post(f"{url}/cancel")
    shown = client.get(url)
    again = client.post(f"{url}/cancel")

    assert cancelled.status_code == 200
    assert cancelled.get_json()["status"] == "CANCELLED"
    assert shown.get_json() == cancelled.get_json()
    assert again.status_code == 409
    assert client.get(f"{url}/audit").get_json()["items"][-1]["to_status"] == "CANCELLED"


def test_cancel_whose_outcome_is_lost_says_so(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = client.post(URL, json=make_payload()).headers["Location"]
    cancel = requests.cancel

    def lose_the_answer(conn: Any, *args: Any, **options: Any) -> Any:
        cancel(conn, *args, **options)
        conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(requests, "cancel", lose_the_answer)
    lost = client.post(f"{url}/cancel")

    assert lost.status_code == 503
    assert (lost.get_json()["code"], lost.get_json()["outcome"]) == ("outcome_unknown", "unknown")
    assert lost.get_json()["correlation_id"] == url.rpartition("/")[2]
    monkeypatch.undo()
    assert client.post(f"{url}/cancel").status_code == 200


def test_cancel_that_was_never_sent_was_not_done(
    client: FlaskClient, postgres_away: Callable[[], AbstractContextManager[None]]
) -> None:
    url = client.post(URL, json=make_payload()).headers["Location"]
    with postgres_away():
        refused = client.post(f"{url}/cancel")
        while refused.get_json()["code"] == "outcome_unknown":  # by a connection not known as dead
            refused = client.post(f"{url}/cancel")
        assert (refused.status_code, refused.get_json()["code"]) == (503, "store_unavailable")


@pytest.mark.parametrize("status", [Status.IN_PROGRESS, Status.SUCCESS, Status.FAILED])
def test_what_was_claimed_is_not_cancelled(client: FlaskClient, work: Work, status: Status) -> None:
    url = client.post(URL, json=make_payload()).headers["Location"]
    work(url.rpartition("/")[2], status)

    refused = client.post(f"{url}/cancel")

    assert refused.status_code == 409
    assert client.get(url).get_json()["status"] == status


def test_failed_request_is_replayed_as_a_new_one(client: FlaskClient, work: Work) -> None:
    payload = make_payload(client_request_id="INC-1", dry_run=True)
    url = client.post(URL, json=payload).headers["Location"]
    work(url.rpartition("/")[2], Status.FAILED)
    assert client.get(url).get_json()["links"]["replay"] == f"{url}/replay"

    replayed = client.post(f"{url}/replay", headers={"Idempotency-Key": "again-1"})
    twice = client.post(f"{url}/replay", headers={"Idempotency-Key": "again-1"})

    assert (replayed.status_code, twice.status_code) == (202, 200)
    assert replayed.get_json()["correlation_id"] == twice.get_json()["correlation_id"]
    new = client.get(replayed.headers["Location"]).get_json()
    assert new["replay_of"] == url.rpartition("/")[2]
    assert new["status"] == "PENDING"
    assert new["client_request_id"] == "again-1"
    for name in ("action", "account_id", "principal", "parameters", "dry_run"):
        assert new[name] == payload[name]
    assert client.get(url).get_json()["status"] == "FAILED"


def test_second_replay_is_refused_and_told_of_the_first(client: FlaskClient, work: Work) -> None:
    url = client.post(URL, json=make_payload()).headers["Location"]
    work(url.rpartition("/")[2], Status.FAILED)
    first = client.post(f"{url}/replay").get_json()["correlation_id"]

    refused = client.post(f"{url}/replay", headers={"Idempotency-Key": "another"})
    assert refused.status_code == 409
    assert refused.get_json()["code"] == "already_replayed"
    assert refused.get_json()["correlation_id"] == first
    assert "PENDING" in refused.get_json()["detail"]

    work(first, Status.FAILED)
    refused = client.post(f"{url}/replay")
    assert (refused.status_code, refused.get_json()["correlation_id"]) == (409, first)
    assert "replay that one" in refused.get_json()["detail"]
    second = client.post(f"{URL}/{first}/replay")
    assert second.status_code == 202

    client.post(f"{second.headers['Location']}/cancel")
    assert client.post(f"{URL}/{first}/replay").status_code == 202


def test_concurrent_replays_make_one(client: FlaskClient, app: Flask, work: Work) -> None:
    url = client.post(URL, json=make_payload()).headers["Location"]
    work(url.rpartition("/")[2], Status.FAILED)
    token = client.environ_base["HTTP_X_AUTH_TOKEN"]
    together = threading.Barrier(6)

    def ask(_: int) -> tuple[int, str]:
        together.wait()
        answered = app.test_client().post(f"{url}/replay", headers={"X-Auth-Token": token})
        return answered.status_code, answered.get_json()["correlation_id"]

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))

    assert sorted(status for status, _ in answers) == [202] + [409] * 5
    assert len({correlation_id for _, correlation_id in answers}) == 1


@pytest.mark.parametrize("status", [None, Status.IN_PROGRESS, Status.SUCCESS])
def test_only_failed_requests_are_replayed(
    client: FlaskClient, work: Work, status: Status | None
) -> None:
    url = client.post(URL, json=make_payload()).headers["Location"]
    if status is not None:
        work(url.rpartition("/")[2], status)

    assert client.post(f"{url}/replay").status_code == 409


def test_replay_needs_an_operator(
    client_of: Callable[..., FlaskClient], new_tenant: Callable[..., Any], work: Work
) -> None:
    client = client_of(new_tenant("requests:read", "requests:write"))
    url = client.post(URL, json=make_payload()).headers["Location"]
    work(url.rpartition("/")[2], Status.FAILED)

    refused = client.post(f"{url}/replay")

    assert refused.status_code == 403
    assert refused.get_json()["code"] == "forbidden"
