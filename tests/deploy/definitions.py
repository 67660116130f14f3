"""Makes strict JSON Schemas of CustomResourceDefinitions: `definitions.py FROM TO`.

An API server prunes in silence what a definition does not name. Here it is refused, so a field
that is spelled wrongly is found. Rules in CEL are left out: only a server evaluates them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

Schema = dict[str, Any]

#: What JSON Schema and a definition's schema mean alike. `format` is none: it only describes.
KEPT: Final = (
    *("type", "enum", "pattern", "required", "minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum", "minProperties", "maxProperties", "uniqueItems", "multipleOf"),
)
#: Beside a resource's own fields.
COMMON: Final[Schema] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object"},
}


def strict(told: Mapping[str, Any]) -> Schema:
    """A definition's schema as JSON Schema that takes no field which is not named."""
    made: Schema = {name: told[name] for name in KEPT if name in told}
    if told.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if "items" in told:
        made["items"] = strict(told["items"])
    for name in ("allOf", "anyOf", "oneOf"):
        # These only narrow: strict as well, they would refuse what the whole allows.
        if name in told and not told.get("x-kubernetes-int-or-string"):
            made[name] = [_narrowing(part) for part in told[name]]
    if "not" in told:
        made["not"] = _narrowing(told["not"])
    made.update(_fields(told))
    if told.get("nullable"):
        return {"anyOf": [made, {"type": "null"}]}
    return made


def _fields(told: Mapping[str, Any]) -> Schema:
    embedded = COMMON if told.get("x-kubernetes-embedded-resource") else {}
    fields = {name: strict(field) for name, field in told.get("properties", {}).items()}
    made: Schema = {"properties": {**embedded, **fields}} if embedded or fields else {}
    if isinstance(more := told.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(more)
    elif fields and not more and not told.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def _narrowing(told: Mapping[str, Any]) -> Schema:
    made: Schema = {name: told[name] for name in KEPT if name in told}
    if "properties" in told:
        made["properties"] = {name: _narrowing(it) for name, it in told["properties"].items()}
    for name in ("allOf", "anyOf", "oneOf"):
        if name in told:
            made[name] = [_narrowing(part) for part in told[name]]
    if "not" in told:
        made["not"] = _narrowing(told["not"])
    return made


def schemas(definition: Mapping[str, Any]) -> Iterator[tuple[str, Schema]]:
    """What each version that a definition serves is filed under, and its schema."""
    spec = definition["spec"]
    for version in spec["versions"]:
        if version["served"]:
            made = strict(version["schema"]["openAPIV3Schema"])
            made["properties"] = {**COMMON, **made["properties"]}
            name = f"{spec['group']}/{version['name']}/{spec['names']['kind']}.json"
            yield name, {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def main(argv: Sequence[str]) -> int:
    """Write the schemas of all definitions in a folder; none there is a failure."""
    # A bare `=` is text, as it is to Kubernetes.
    yaml.CSafeLoader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)
    found, made = Path(argv[0]), Path(argv[1])
    count = 0
    for path in sorted(found.glob("*.yaml")):
        for document in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader):
            if document and document["kind"] == "CustomResourceDefinition":
                for name, schema in schemas(document):
                    target = made / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(json.dumps(schema))
                    count += 1
    if not count:
        print(f"{found} defines nothing", file=sys.stderr)
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
