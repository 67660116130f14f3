"""GET /api/v1/requests: filters and pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from csb_core.states import Status
from csb_core.testing import make_payload

URL = "/api/v1/requests"


def test_pages_hold_every_request_once_newest_first(client: FlaskClient) -> None:
    made = [
        client.post(URL, json=make_payload(client_request_id=f"INC-{n}")).get_json()
        for n in range(7)
    ]
    seen: list[str] = []
    cursor = ""
    sizes = []
    while True:
        page = client.get(f"{URL}?limit=3{cursor}").get_json()
        sizes.append(len(page["items"]))
        seen += [item["correlation_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert sizes == [3, 3, 1]
    assert seen == [receipt["correlation_id"] for receipt in reversed(made)]


def test_filters_narrow(client: FlaskClient, work: Callable[[str, Status], None]) -> None:
    alice = client.post(URL, json=make_payload(client_request_id="INC-1")).get_json()
    bob = client.post(
        URL,
        json=make_payload(action="detach_policy", principal={"type": "role", "name": "bob"}),
    ).get_json()
    work(bob["correlation_id"], Status.SUCCESS)
    middle = client.get(f"{URL}/{bob['correlation_id']}").get_json()["created_at"]

    def found(query: str) -> set[str]:
        answered = client.get(f"{URL}?{query}")
        assert answered.status_code == 200, answered.text
        return {item["correlation_id"] for item in answered.get_json()["items"]}

    a, b = alice["correlation_id"], bob["correlation_id"]
    assert found("") == {a, b}
    assert found("status=SUCCESS") == {b}
    assert found("action=attach_policy") == {a}
    assert found("principal_type=role") == {b}
    assert found("principal_name=alice") == {a}
    assert found("account_id=111122223333&cloud_provider=aws") == {a, b}
    assert found("client_request_id=INC-1") == {a}
    assert found(f"created_from={middle}") == {b}
    assert found(f"created_to={middle}") == {a}
    assert found("account_id=000000000000") == set()


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=x", "limit=%C2%B2", "status=DONE", "cursor=x",
        "cursor=AAAA", "created_from=yesterday", "created_from=2026-11-22T12:00:00",
        "state=PENDING", "status=PENDING&status=FAILED", "action=%00",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_a_400(client: FlaskClient, query: str) -> None:
    answered = client.get(f"{URL}?{query}")
    assert answered.status_code == 400
    assert answered.get_json()["code"] == "bad_request"
