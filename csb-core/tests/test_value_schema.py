"""Schemas that tenants bring: the harmless are kept to, the harmful refused, and none hangs us."""

from __future__ import annotations

import time
from typing import Any

import pytest

from csb_core.body import DEEPEST
from csb_core.faults import Invalid
from csb_core.value_schema import Allowance, compiled


def refused(schema: Any) -> list[str]:
    with pytest.raises(Invalid) as caught:
        compiled(schema, "/s")
    return [fault.pointer for fault in caught.value.faults]


def nested(depth: int, inmost: Any = 1) -> Any:
    value: Any = inmost
    for _ in range(depth):
        value = {"c": value}
    return value


def test_value_is_held_against_its_schema() -> None:
    schema = compiled(
        {
            "type": "object",
            "required": ["ip"],
            "additionalProperties": False,
            "properties": {"ip": {"type": "string", "pattern": "^[0-9.]+$"}, "n": {"enum": [1]}},
        }
    )

    assert schema.faults({"ip": "10.0.0.1", "n": 1}) == []
    told = schema.faults({"n": 2, "ip": "secret-value", "x/y": 1}, "/input")
    assert {fault.pointer for fault in told} == {"/input", "/input/n", "/input/ip"}
    assert not any("secret-value" in fault.message for fault in told)
    assert any("x/y" in fault.message for fault in told)


def test_empty_schema_takes_anything() -> None:
    values: tuple[Any, ...] = (None, 1, "x", [], nested(DEEPEST))
    for value in values:
        assert compiled({}).faults(value) == []


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "strin"}, ["/s/type"]),
        ({"properties": {"a/b": {"minimum": "x"}}}, ["/s/properties/a~1b/minimum"]),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, ["/s/$schema"]),
        ({"$ref": "https://example.com/schema.json"}, ["/s/$ref"]),
        ({"items": {"$ref": "file:///etc/passwd"}}, ["/s/items/$ref"]),
        ({"$ref": "#/$defs/none"}, ["/s/$ref"]),
        ({"$ref": "#/type", "type": "object"}, ["/s/$ref"]),
        ({"$id": "urn:x", "not": {"$anchor": "y"}}, ["/s/$id", "/s/not/$anchor"]),
        ({"unevaluatedProperties": False}, ["/s/unevaluatedProperties"]),
        ({"pattern": "(?=a)b"}, ["/s/pattern"]),
        ({"pattern": r"(a)\1"}, ["/s/pattern"]),
        ({"pattern": "("}, ["/s/pattern"]),
        ({"pattern": "(a{1,1000}){1,100}"}, ["/s/pattern"]),
        ({"patternProperties": {"[": {}}}, ["/s/patternProperties/["]),
        ({"description": "x" * 70_000}, ["/s"]),
        ({"allOf": [{}] * 600}, ["/s"]),
        ({"patternProperties": {f"^{n}": {"pattern": "x"} for n in range(9)}}, ["/s"]),
        ({"patternProperties": 5}, ["/s/patternProperties"]),
        ({"allOf": 5, "properties": [], "$defs": 1}, ["/s/$defs"]),
    ],
)
def test_what_we_do_not_take_is_named(schema: Any, where: list[str]) -> None:
    assert refused(schema) == where


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}},
        {"if": {"$ref": "#"}},
        {"dependentSchemas": {"a": {"$ref": "#"}}},
    ],
)
def test_reference_that_never_ends_is_refused(schema: Any) -> None:
    assert refused(schema)


def test_many_checks_of_one_call_cost_no_more_than_one() -> None:
    schema = compiled({"items": {"type": "string"}})
    allowance = Allowance()
    began = time.monotonic()
    told = [schema.faults([1] * 5000, allowance=allowance) for _ in range(1000)]

    assert time.monotonic() - began < 3
    assert all(told)
    assert len(told[0]) == 100  # each is named, while there is time
    assert len(told[10]) == 1
    assert "too large" in told[-1][0].message


def test_tree_may_refer_to_itself() -> None:
    tree = compiled({"properties": {"c": {"$ref": "#"}, "n": {"type": "integer"}}})

    assert tree.faults(nested(60, {"n": 1})) == []
    assert [f.pointer for f in tree.faults(nested(3, {"n": "x"}))] == ["/c/c/c/n"]


def test_blow_up_by_references_is_seen_before_it_happens() -> None:
    """Each level doubles: 2^60 checks of one small value."""
    doubled = {"properties": {"c": {"$ref": "#"}}}
    schema = compiled({"allOf": [doubled, doubled]})

    began = time.monotonic()
    [fault] = schema.faults(nested(60), "/input")
    assert time.monotonic() - began < 1
    assert "too large" in fault.message
    assert schema.faults(nested(5)) == []


@pytest.mark.parametrize("keyword", ["allOf", "prefixItems"])
def test_blow_up_of_the_compiler_is_seen_before_it_happens(keyword: str) -> None:
    """Each definition names the next one twice: 2^60 of the last."""
    chain = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}

    began = time.monotonic()
    assert refused({"$ref": "#/$defs/d0", "$defs": {**chain, "d60": {}}}) == ["/s"]
    assert time.monotonic() - began < 1


def test_long_chain_of_references_is_no_burden() -> None:
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(450)}
    schema = compiled({"$ref": "#/$defs/d0", "$defs": {**chain, "d450": {"type": "integer"}}})

    assert schema.faults(1) == []
    assert len(schema.faults("x")) == 1


def test_tree_with_two_branches_is_no_blow_up() -> None:
    branches = {name: {"$ref": "#"} for name in ("c", "d", "e")}
    schema = compiled({"type": "object", "properties": branches})

    assert schema.faults(nested(60, {})) == []
    assert [f.pointer for f in schema.faults({"d": {"e": 1}})] == ["/d/e"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "pattern": "^(a+)+$"}, "a" * 500_000 + "!"),
        ({"type": "string", "pattern": "(a|aa)+$"}, "a" * 500_000 + "!"),
        ({"type": "string", "pattern": "(.*)*x$"}, "ab" * 250_000),
        ({"items": {"type": "string"}}, [1] * 400_000),
        ({"items": {"allOf": [{"type": "integer"}] * 400}}, [1] * 400_000),
        ({"items": {"enum": [{"a": n} for n in range(2000)]}}, [{"a": 1999}] * 50_000),
        ({"uniqueItems": True}, [[n] for n in range(100_000)]),
        ({"additionalProperties": False}, {str(n): 1 for n in range(50_000)}),
    ],
)
def test_no_value_takes_long(schema: Any, value: Any) -> None:
    ready = compiled(schema)
    began = time.monotonic()
    told = ready.faults(value)
    taken = time.monotonic() - began

    assert taken < 1.5
    assert len(str(told)) < 2000
