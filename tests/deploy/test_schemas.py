"""What would not be accepted is refused, by the schemas of Kubernetes and of operators."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import jsonschema
import pytest
from tests.deploy import schemas
from tests.deploy.charts import WAYS, Manifest, of_kind, rendered
from tests.deploy.definitions import strict


def first(kind: str, way: str = "everything") -> Manifest:
    preset, values = WAYS[way]
    return deepcopy(of_kind(rendered(preset=preset, values=values), kind)[0])


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("Service", "dev"),
        ("HTTPRoute", "canary"),
        *((kind, "everything") for kind in ("Cluster", "Pooler", "ObjectStore", "ScheduledBackup")),
        *((kind, "everything") for kind in ("ExternalSecret", "ScaledObject")),
        *((kind, "everything") for kind in ("PodMonitor", "PrometheusRule", "ServiceMonitor")),
    ],
)
def test_a_field_that_is_none_is_refused(kind: str, way: str) -> None:
    manifest = first(kind, way)
    schemas.check(manifest, "1.34")
    manifest["spec"]["selektor"] = {}
    with pytest.raises(schemas.Refused, match="selektor"):
        schemas.check(manifest, "1.34")


def test_a_word_that_is_none_is_refused() -> None:
    cluster = first("Cluster")
    cluster["spec"]["primaryUpdateStrategy"] = "whenever"
    with pytest.raises(schemas.Refused, match="whenever"):
        schemas.check(cluster, "1.34")


def test_what_nobody_knows_is_refused() -> None:
    unknown = {**first("Cluster"), "apiVersion": "postgresql.cnpg.io/v9"}
    with pytest.raises(schemas.Refused, match=r"knows no Cluster of postgresql\.cnpg\.io/v9"):
        schemas.check(unknown, "1.34")


@pytest.mark.parametrize(
    ("told", "taken", "refused"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "x"}, {"b": "x"}),
        ({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]}, "80%", 1.5),
        ({"type": "string", "nullable": True}, None, 1),
        ({"type": "array", "items": {"type": "string", "enum": ["a"]}}, ["a"], ["b"]),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"x": "y"}, {"x": 1}),
        (
            {"x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}},
            {"kind": "Pod", "spec": {}},
            {"kind": "Pod", "status": {}},
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            {"a": "x"},
            {"a": "x", "b": "y"},
        ),
    ],
)
def test_a_definition_is_as_strict_as_it_says(told: Any, taken: Any, refused: Any) -> None:
    validator = jsonschema.Draft202012Validator(strict(told))
    assert validator.is_valid(taken)
    assert not validator.is_valid(refused)


def test_what_a_definition_leaves_open_stays_open() -> None:
    told = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"a": {"type": "string"}},
    }
    assert jsonschema.Draft202012Validator(strict(told)).is_valid({"b": 1})
