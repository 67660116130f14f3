"""What a search narrows by, held against the definitions of the actions in schema.json.

A value that no request can have would be answered with an empty page, which reads like "there is
none": so it is refused, and the caller is told what there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from api_service.errors import BadRequest
from api_service.incoming import choice
from csb_core.contract import Contract
from csb_core.explain import ExplainingValidator, explain
from csb_core.faults import Fault
from csb_core.models import Json

#: Where the body of a request has what these parameters name.
_FIELDS: Final = {"account_id": ("account_id",), "principal_type": ("principal", "type")}


def narrowed(contract: Contract, asked: Mapping[str, str]) -> dict[str, str | None]:
    """Return what is asked of provider, action, account and kind of principal.

    Raises BadRequest for what stands in no definition. An action that is taken no more keeps its
    definition, or what it did could not be found.
    """
    keys = list(contract.definitions)
    provider = choice(asked, "cloud_provider", _once(p for p, _ in keys))
    keys = [key for key in keys if provider in {None, key[0]}]
    action = choice(asked, "action", _once(a for _, a in keys))
    keys = [key for key in keys if action in {None, key[1]}]
    checked = {name: _checked(contract, keys, asked, name) for name in _FIELDS}
    return {"cloud_provider": provider, "action": action, **checked}


def _checked(
    contract: Contract, keys: Sequence[tuple[str, str]], asked: Mapping[str, str], name: str
) -> str | None:
    text = asked.get(name)
    if text is None:
        return None
    # Where the actions asked for have no such field, none is found, but a slip is still told.
    schemas = _schemas(contract, keys, name) or _schemas(contract, contract.definitions, name)
    faults = [_fault(contract, name, schema, text) for schema in schemas]
    told = [fault for fault in faults if fault]
    if told and len(told) == len(faults):
        raise BadRequest("; or ".join(_sentence(fault) for fault in told))
    return text


def _schemas(contract: Contract, keys: Iterable[tuple[str, str]], name: str) -> list[Json]:
    found: list[Json] = []
    for schema in _fields(contract, keys, name):
        if schema not in found:
            found.append(schema)
    return found


def _fields(contract: Contract, keys: Iterable[tuple[str, str]], name: str) -> Iterator[Json]:
    for key in keys:
        schema: Json | None = contract.definitions[key]
        for step in _FIELDS[name]:
            schema = _resolved(contract, schema).get("properties", {}).get(step) if schema else None
        if schema is not None:
            yield _resolved(contract, schema)


def _resolved(contract: Contract, schema: Json) -> Json:
    while "$ref" in schema:
        schema = contract.document["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _fault(contract: Contract, name: str, schema: Json, text: str) -> Fault | None:
    shared = contract.document["$defs"]
    validator = ExplainingValidator({"$defs": shared, "properties": {name: schema}})
    return next(iter(explain(validator, shared, {name: text})), None)


def _sentence(fault: Fault) -> str:
    return f"{fault.message.rstrip('.')}{f' ({fault.hint})' if fault.hint else ''}"


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
