"""GET /api/v1/requests: filters and pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from csb_core import contract, request_search
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


def test_executions_are_found_by_their_util(
    client: FlaskClient, new_util: Callable[..., Any]
) -> None:
    client.post(URL, json=make_payload())
    here, there = new_util(), new_util()
    ran = {
        util["util_id"]: [
            client.post(util["links"]["execute"], json={"input": n}).get_json()["correlation_id"]
            for n in range(3)
        ]
        for util in (here, there)
    }
    for util_id, made in ran.items():
        page = client.get(f"{URL}?util_id={util_id}&limit=2").get_json()
        rest = client.get(f"{URL}?util_id={util_id}&cursor={page['next_cursor']}").get_json()
        found = [item["correlation_id"] for item in page["items"] + rest["items"]]
        assert found == made[::-1]
        assert rest["next_cursor"] is None
        tests = client.get(f"{URL}?util_id={util_id}&action=test_util").get_json()
        assert tests == {"items": [], "next_cursor": None}


def test_page_that_has_looked_at_enough_tells_where_to_go_on(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = client.post(URL, json=make_payload(principal={"type": "role", "name": "rare"}))
    for _ in range(8):
        client.post(URL, json=make_payload())
    monkeypatch.setattr(request_search, "MOST_LOOKED_AT", (2, 4))
    pages = [client.get(f"{URL}?principal_name=rare").get_json()]
    while pages[-1]["next_cursor"]:
        cursor = pages[-1]["next_cursor"]
        pages.append(client.get(f"{URL}?principal_name=rare&cursor={cursor}").get_json())
    assert [len(page["items"]) for page in pages] == [0, 0, 1]
    assert pages[-1]["items"][0]["correlation_id"] == oldest.get_json()["correlation_id"]


def test_page_holds_no_more_than_the_process_can_bear(
    client: FlaskClient, new_util: Callable[..., Any], run: Callable[..., None]
) -> None:
    util, made = new_util(), []
    for number in range(12):
        answered = client.post(util["links"]["execute"], json={"input": number})
        made.append(answered.get_json()["correlation_id"])
        run(made[-1], "x" * 1_000_000)
    seen, cursor, sizes = [], "", []
    while cursor is not None:
        page = client.get(f"{URL}?limit=200{cursor and f'&cursor={cursor}'}")
        sizes.append(len(page.data))
        seen += [item["correlation_id"] for item in page.get_json()["items"]]
        cursor = page.get_json()["next_cursor"]
    assert seen == made[::-1]
    assert len(sizes) == 2
    assert max(sizes) < 9_000_000


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=x", "limit=%C2%B2", "status=DONE", "cursor=x",
        "cursor=AAAA", "created_from=yesterday", "created_from=2026-11-22T12:00:00",
        "state=PENDING", "util_id=mine", "status=PENDING&status=FAILED", "action=%00",
        "action=fly", "action=", "cloud_provider=nimbus", "cloud_provider=aws&action=run_util",
        "account_id=12", "account_id=", "account_id=111122223333%0A", "principal_type=",
        "cloud_provider=sandbox&account_id=12",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_a_400(client: FlaskClient, query: str) -> None:
    answered = client.get(f"{URL}?{query}")
    assert answered.status_code == 400
    assert answered.get_json()["code"] == "bad_request"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("action=atach_policy", "attach_policy, detach_policy, run_util, test_util (did you mean"),
        ("cloud_provider=asw", "cloud_provider must be one of aws, sandbox"),
        ("cloud_provider=aws&action=run_utl", "must be one of attach_policy, detach_policy."),
        (
            "principal_type=usr",
            "must be 'user', 'role' or 'group'. What kind of principal it is (did",
        ),
        ("principal_type=usr", "(did you mean 'user'?)."),
        (
            "account_id=12",
            "account_id does not have the form that it must have. The 12 digits of a",
        ),
        ("status=SUCESS", "SUCCESS, FAILED, CANCELLED (did you mean 'SUCCESS'?)"),
    ],
)
def test_misspelt_choice_is_told_what_there_is(
    client: FlaskClient, query: str, detail: str
) -> None:
    assert detail in client.get(f"{URL}?{query}").get_json()["detail"]


def test_action_that_is_taken_no_more_is_still_found(
    make_app: Callable[..., Any], tmp_path: Path, tenant: Any
) -> None:
    document = contract.load().document
    withdrawn = {"$ref": "#/$defs/aws.detach_policy"}
    schema = tmp_path / "schema.json"
    schema.write_text(
        json.dumps({**document, "oneOf": [line for line in document["oneOf"] if line != withdrawn]})
    )
    payload, headers = make_payload(action="detach_policy"), {"X-Auth-Token": tenant.token}
    before, after = make_app().test_client(), make_app(schema_path=schema).test_client()
    made = before.post(URL, json=payload, headers=headers).get_json()["correlation_id"]

    assert after.post(URL, json=payload, headers=headers).status_code == 422
    found = after.get(f"{URL}?cloud_provider=aws&action=detach_policy", headers=headers).get_json()
    assert [item["correlation_id"] for item in found["items"]] == [made]


def test_accounts_are_spelt_as_their_provider_does(
    make_app: Callable[..., Any], tmp_path: Path, tenant: Any
) -> None:
    document = contract.load().document
    nimbus = {
        "type": "object",
        "properties": {
            "cloud_provider": {"const": "nimbus"},
            "action": {"const": "fly"},
            "account_id": {
                "type": "string",
                "pattern": "^n-[0-9]+$",
                "description": "n- and digits.",
            },
        },
    }
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(contract.extended(document, {"nimbus.fly": nimbus})))
    client = make_app(schema_path=schema).test_client()
    client.environ_base["HTTP_X_AUTH_TOKEN"] = tenant.token

    def status(query: str) -> int:
        answered: int = client.get(f"{URL}?{query}").status_code
        return answered

    assert [status(f"account_id={one}") for one in ("n-12", "111122223333", "12")] == [
        200,
        200,
        400,
    ]
    assert status("cloud_provider=nimbus&account_id=n-12") == 200
    assert status("cloud_provider=aws&account_id=n-12") == 400
    assert "n- and digits" in client.get(f"{URL}?action=fly&account_id=12").get_json()["detail"]
