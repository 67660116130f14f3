"""What a request may carry, read from schema.json and compiled once per action.

A fast validator says yes in about two microseconds; only when it says no does the slow one look
for every reason. Nobody walks the `oneOf`: provider and action name the one definition to check.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import jsonschema_rs
import orjson
from jsonschema import Draft202012Validator, SchemaError

from csb_core.errors import ConfigurationError
from csb_core.explain import ExplainingValidator, did_you_mean, explain, listed, meant
from csb_core.faults import Fault, Invalid
from csb_core.models import Json

#: Bodies of POST and PUT that are no request of a provider.
BODIES: Final = (
    *("BatchRequest", "CreateUtilRequest", "UpdateUtilRequest", "ValidateUtilRequest"),
    *("ExecutionRequest", "RollbackRequest", "ShareRequest", "RuleRequest"),
)

_FILE: Final = "schema.json"
_IN_DEFS: Final = "#/$defs/"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checker:
    """The two validators of one definition."""

    fast: jsonschema_rs.Validator
    slow: Draft202012Validator
    shared: Json

    def faults(self, value: Any) -> list[Fault]:
        """Return every fault, none when the value is valid."""
        if self.fast.is_valid(value):
            return []
        return explain(self.slow, self.shared, value) or [
            Fault(pointer="", message="The body is not what the contract asks for.")
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """schema.json, compiled."""

    document: Json
    actions: Mapping[tuple[str, str], _Checker]
    #: Of every action that has one: what oneOf no longer lists is taken no more, yet searched for.
    definitions: Mapping[tuple[str, str], Json]
    shapes: Mapping[str, _Checker]

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that have an action, in the order of schema.json."""
        return tuple(dict.fromkeys(provider for provider, _ in self.actions))

    def check(self, payload: Any) -> Json:
        """Return the payload, now known to be a valid request; raises Invalid with all faults."""
        faults = self._faults(payload)
        if faults:
            raise Invalid(faults)
        checked: Json = payload
        return checked

    def check_shape(self, name: str, value: Any) -> Json:
        """Return the value, now known to fit the definition `name`; raises Invalid."""
        faults = self.shapes[name].faults(value)
        if faults:
            raise Invalid(faults)
        checked: Json = value
        return checked

    def _faults(self, payload: Any) -> list[Fault]:
        if not isinstance(payload, dict):
            return [Fault(pointer="", message="A request must be an object.")]
        provider, action = payload.get("cloud_provider"), payload.get("action")
        if isinstance(provider, str) and isinstance(action, str):
            checker = self.actions.get((provider, action))
            if checker is not None:
                return checker.faults(payload)
        return self._faults_of_unknown(payload)

    def _faults_of_unknown(self, payload: Json) -> list[Fault]:
        """Say which of provider and action is wrong, and check the rest against what is likely.

        Where nothing is likely, only what every action would refuse is a fault.
        """
        provider, action = payload.get("cloud_provider"), payload.get("action")
        faults: list[Fault] = []
        if provider not in self.providers:
            faults.append(_not_one_of(payload, "cloud_provider", self.providers))
        names = [a for p, a in self.actions if p == provider or provider not in self.providers]
        if action not in names:
            faults.append(_not_one_of(payload, "action", names))

        told = {"/cloud_provider", "/action"}
        likely = action if action in names else meant(action, names)
        names = [likely] if likely else names
        checkers = [c for key, c in self.actions.items() if key[1] in names]
        shared = set.intersection(*(set(checker.faults(payload)) for checker in checkers))
        rest = [fault for fault in shared if fault.pointer not in told]
        return faults + sorted(rest, key=lambda fault: fault.pointer)


def canonical(value: Any) -> bytes:
    """Return the one spelling of a JSON value: names sorted, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def find(given: Path | None = None) -> Path:
    """Return `given`, or else the nearest schema.json above this file or the working directory."""
    if given is not None:
        return given
    here = Path(__file__).resolve()
    for folder in (*here.parents, Path.cwd(), *Path.cwd().parents):
        if (folder / _FILE).is_file():
            return folder / _FILE
    raise ConfigurationError(f"{_FILE} was not found: set CSB_SCHEMA_PATH to where it lies")


def load(path: Path | None = None) -> Contract:
    """Read and compile schema.json; raises ConfigurationError when it is not what it must be."""
    place = find(path)
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{place} cannot be read: {exc}") from exc
    return compiled(document)


def compiled(document: Json) -> Contract:
    """Compile a schema document; raises ConfigurationError when it is not what it must be."""
    try:
        Draft202012Validator.check_schema(document)
    except SchemaError as exc:
        raise ConfigurationError(f"{_FILE} is no JSON Schema: {exc.message}") from exc
    actions = {_names(document, name): _checker(document, name) for name in _listed(document)}
    named = {
        _names(document, name): body for name, body in document["$defs"].items() if "." in name
    }
    shapes = {name: _checker(document, name) for name in BODIES}
    return Contract(
        document=document,
        actions=MappingProxyType(actions),
        definitions=MappingProxyType({key: named[key] for key in (*actions, *named)}),
        shapes=MappingProxyType(shapes),
    )


def extended(document: Json, actions: Mapping[str, Json]) -> Json:
    """Return the document with more actions: their definitions, and their lines in oneOf."""
    return {
        **document,
        "oneOf": [*document["oneOf"], *({"$ref": f"{_IN_DEFS}{name}"} for name in actions)],
        "$defs": {**document["$defs"], **actions},
    }


def _listed(document: Json) -> list[str]:
    return [str(line["$ref"]).removeprefix(_IN_DEFS) for line in document["oneOf"]]


def _names(document: Json, name: str) -> tuple[str, str]:
    fields = document["$defs"][name]["properties"]
    provider, action = fields["cloud_provider"]["const"], fields["action"]["const"]
    if name != f"{provider}.{action}":
        raise ConfigurationError(f"{_FILE}: the definition {name} is of {provider}.{action}")
    return provider, action


def _checker(document: Json, name: str) -> _Checker:
    schema = {
        "$schema": document["$schema"],
        "$defs": document["$defs"],
        "$ref": f"{_IN_DEFS}{name}",
    }
    return _Checker(
        fast=jsonschema_rs.Draft202012Validator(schema),
        slow=ExplainingValidator(schema),
        shared=document["$defs"],
    )


def _not_one_of(payload: Json, field: str, options: Iterable[str]) -> Fault:
    wrong = "is not one of ours; it must be" if field in payload else "is missing; give"
    return Fault(
        pointer=f"/{field}",
        message=f"{field} {wrong} {listed(options)}.",
        hint=did_you_mean(payload.get(field), options),
    )
