"""The contract: what it accepts, and how it explains what it does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from csb_core import contract
from csb_core.contract import Contract, canonical, compiled, digest_of, extended
from csb_core.errors import ConfigurationError
from csb_core.explain import explain
from csb_core.faults import Fault, Invalid, pointer
from csb_core.testing import make_payload

CONTRACT = contract.load()


def faults_of(payload: Any, rules: Contract = CONTRACT) -> dict[str, Fault]:
    try:
        rules.check(payload)
    except Invalid as exc:
        return {fault.pointer: fault for fault in exc.faults}
    return {}


@pytest.mark.parametrize("action", ["attach_policy", "detach_policy"])
@pytest.mark.parametrize(
    ("kind", "name"), [("user", "a" * 64), ("role", "_+=,.@-"), ("group", "g" * 128)]
)
@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::aws:policy/ReadOnlyAccess",
        "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
        "arn:aws-cn:iam::111122223333:policy/a/b/own",
        "arn:aws-us-gov:iam::aws:policy/job-function/ViewOnlyAccess",
    ],
)
def test_what_iam_knows_is_accepted(action: str, kind: str, name: str, arn: str) -> None:
    payload = make_payload(
        action=action, principal={"type": kind, "name": name}, parameters={"policy_arn": arn}
    )
    assert CONTRACT.check(payload) is payload


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"account_id": "12345678901"}, "/account_id"),
        ({"account_id": 111122223333}, "/account_id"),
        ({"account_id": "111122223333\n"}, "/account_id"),
        ({"account_id": "١١١١٢٢٢٢٣٣٣٣"}, "/account_id"),
        ({"principal": {"type": "user", "name": "a" * 65}}, "/principal/name"),
        ({"principal": {"type": "group", "name": "a" * 129}}, "/principal/name"),
        ({"principal": {"type": "user", "name": ""}}, "/principal/name"),
        ({"principal": {"type": "user", "name": "é"}}, "/principal/name"),
        ({"principal": {"type": "robot", "name": "a"}}, "/principal/type"),
        ({"principal": {"type": "user", "name": "a", "path": "/"}}, "/principal/path"),
        ({"principal": "alice"}, "/principal"),
        ({"parameters": {}}, "/parameters/policy_arn"),
        ({"parameters": {"policy_arn": "arn:aws:iam::aws:role/x"}}, "/parameters/policy_arn"),
        ({"parameters": {"policy_arn": "arn:aws-iso:iam::aws:policy/x"}}, "/parameters/policy_arn"),
        ({"parameters": {"policy_arn": "arn:aws:iam::aws:policy/"}}, "/parameters/policy_arn"),
        ({"dry_run": "true"}, "/dry_run"),
        ({"dry_run": 1}, "/dry_run"),
        ({"client_request_id": ""}, "/client_request_id"),
        ({"client_request_id": "two words"}, "/client_request_id"),
        ({"client_request_id": "x" * 129}, "/client_request_id"),
        ({"surprise": 1}, "/surprise"),
        ({"cloud_provider": "azure"}, "/cloud_provider"),
        ({"cloud_provider": None}, "/cloud_provider"),
        ({"action": "create_user"}, "/action"),
        ({"action": ["attach_policy"]}, "/action"),
    ],
)
def test_one_fault_is_told_at_its_place(wrong: dict[str, Any], where: str) -> None:
    assert list(faults_of(make_payload(**wrong))) == [where]


def test_all_faults_are_told_at_once_with_their_remedy() -> None:
    faults = faults_of(
        {
            "cloud_provider": "aws",
            "action": "detach_polisy",
            "acount_id": "111122223333",
            "principal": {"type": "usr"},
            "parameters": {"policy_arn": 5, "x": 1},
        }
    )

    assert list(faults) == [
        "/action",
        "/account_id",
        "/acount_id",
        "/parameters/policy_arn",
        "/parameters/x",
        "/principal/name",
        "/principal/type",
    ]
    assert faults["/action"].hint == "did you mean 'detach_policy'?"
    assert faults["/acount_id"].hint == "did you mean 'account_id'?"
    assert faults["/principal/type"].hint == "did you mean 'user'?"
    assert "12 digits" in faults["/account_id"].message
    assert faults["/parameters/policy_arn"].message.startswith("policy_arn must be a string.")


@pytest.mark.parametrize(
    "written", ["AttachPolicy", "attach-policy", "ATTACH_POLICY", "atach_policy"]
)
def test_misspelt_action_is_guessed(written: str) -> None:
    assert (
        faults_of(make_payload(action=written))["/action"].hint == "did you mean 'attach_policy'?"
    )


@pytest.mark.parametrize("written", ["", "x", "delete_everything", "a" * 100_000, 7, None, {}])
def test_what_resembles_nothing_is_not_guessed(written: Any) -> None:
    assert faults_of(make_payload(action=written))["/action"].hint is None


@pytest.mark.parametrize("payload", [None, 1, "x", [], [make_payload()], True])
def test_what_is_no_object_is_one_fault(payload: Any) -> None:
    assert list(faults_of(payload)) == [""]


def test_empty_object_misses_what_every_action_asks_for() -> None:
    assert list(faults_of({})) == ["/cloud_provider", "/action"]
    assert list(faults_of({"cloud_provider": "aws"})) == [
        "/action",
        "/account_id",
        "/parameters",
        "/principal",
    ]


def test_hostile_bodies_get_a_bounded_answer() -> None:
    faults = faults_of({**make_payload(), **{f"x{n}": n for n in range(50_000)}})
    assert 0 < len(faults) <= 100


def test_no_value_is_repeated() -> None:
    secret = "hunter2hunter2"
    payload = make_payload(
        account_id=secret,
        principal={"type": secret, "name": f"{secret} "},
        parameters={"policy_arn": secret},
        dry_run=secret,
    )
    assert not any(secret in f"{f.message}{f.hint}" for f in faults_of(payload).values())


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1.0, -1, "", "a\n", "é", "\u0661", "\x7f", "user", "group", "aws", [], {}, [1]]
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=140)
PLACES = st.sampled_from(
    [
        ("client_request_id",), ("cloud_provider",), ("action",), ("account_id",), ("principal",),
        ("principal", "type"), ("principal", "name"), ("principal", "x"), ("parameters",),
        ("parameters", "policy_arn"), ("parameters", "y"), ("dry_run",), ("z",),
    ]
)  # fmt: skip
NEARLY = st.one_of(
    st.from_regex(re.compile(r"^[0-9]{11,13}$", re.ASCII)),
    st.from_regex(re.compile(r"^arn:aws(-cn)?:iam::(aws|[0-9]{12}):policy/[!-~]{0,40}$")),
    st.from_regex(re.compile(r"^[\w+=,.@ -]{0,130}$")),
)


@given(
    changes=st.lists(st.tuples(PLACES, st.one_of(ODD, TEXT, NEARLY, st.just(...))), max_size=3),
    key=st.sampled_from(sorted(CONTRACT.actions)),
)
def test_fast_and_slow_validator_agree(changes: list[Any], key: tuple[str, str]) -> None:
    payload = make_payload(client_request_id="k", dry_run=False)
    for path, value in changes:
        holder: Any = payload
        for name in path[:-1]:
            holder = holder.get(name) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
            if value is not ...:
                holder[path[-1]] = value

    checker = CONTRACT.actions[key]
    assert checker.fast.is_valid(payload) == (not explain(checker.slow, checker.shared, payload))


TINY = {
    "type": "object",
    "required": ["cloud_provider", "action", "parameters"],
    "additionalProperties": False,
    "properties": {
        "client_request_id": {"$ref": "#/$defs/ClientRequestId"},
        "cloud_provider": {"const": "tiny"},
        "action": {"const": "add"},
        "parameters": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}},
    },
}


def test_second_provider_needs_a_definition_and_a_line() -> None:
    rules = compiled(extended(CONTRACT.document, {"tiny.add": TINY}))

    assert rules.providers == ("aws", "sandbox", "tiny")
    rules.check({"cloud_provider": "tiny", "action": "add", "parameters": {"n": 1}})
    rules.check(make_payload())
    wrong = {"cloud_provider": "tiny", "action": "add", "parameters": {"n": 0}}
    assert faults_of(wrong, rules)["/parameters/n"].message == "n must be at least 1."
    lost = {"cloud_provider": "tiny", "action": "attach_policy", "parameters": {}}
    assert list(faults_of(lost, rules)) == ["/action"]
    strange = {"cloud_provider": "tny", "action": "add", "parameters": {}}
    assert faults_of(strange, rules)["/cloud_provider"].hint == "did you mean 'tiny'?"


def test_document_is_a_schema_that_agrees_with_the_actions() -> None:
    whole = Draft202012Validator(CONTRACT.document)
    assert whole.is_valid(make_payload())
    assert not whole.is_valid(make_payload(x=1))
    assert [f"{provider}.{action}" for provider, action in CONTRACT.actions] == [
        line["$ref"].removeprefix("#/$defs/") for line in CONTRACT.document["oneOf"]
    ]


def test_schema_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        contract.load(path)
    path.write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        contract.load(path)
    path.write_text(json.dumps({**CONTRACT.document, "type": "no such type"}))
    with pytest.raises(ConfigurationError, match="no JSON Schema"):
        contract.load(path)
    with pytest.raises(ConfigurationError, match=r"is of tiny\.add"):
        compiled(extended(CONTRACT.document, {"tiny.sum": TINY}))


def test_canonical_json_does_not_depend_on_order() -> None:
    one = {"b": 1, "a": {"d": "é", "c": [1, 2]}}
    other = {"a": {"c": [1, 2], "d": "é"}, "b": 1}
    assert canonical(one) == canonical(other) == '{"a":{"c":[1,2],"d":"é"},"b":1}'.encode()
    assert digest_of(one) == digest_of(other) != digest_of({**one, "b": 2})


def test_pointers_escape_as_rfc_6901_asks() -> None:
    assert pointer([]) == ""
    assert pointer(["a/b", 0, "m~n", ""]) == "/a~1b/0/m~0n/"
