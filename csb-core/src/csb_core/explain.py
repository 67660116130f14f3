"""Turns what a JSON Schema validator complains of into faults that tell a person what to do.

A message never repeats a value, which might be a secret; only names that the caller misspelt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Any, Final

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from csb_core.faults import MOST_FAULTS, Fault, pointer
from csb_core.models import Json

#: A name longer than this is not compared, and not repeated in full.
_LONGEST_NAME: Final = 64

_KINDS: Final = {
    "object": "an object", "array": "an array", "string": "a string", "integer": "an integer",
    "number": "a number", "boolean": "true or false", "null": "null",
}  # fmt: skip


def explain(validator: Draft202012Validator, shared: Json, value: Any) -> list[Fault]:
    """Return every fault of `value`, each once, in the order of their places.

    `shared` are the schema's `$defs`, where the fields are described.
    """
    faults = {
        (fault.pointer, fault.message): fault
        for error in islice(validator.iter_errors(value), MOST_FAULTS)
        for fault in islice(_faults_of(error, shared), MOST_FAULTS)
    }
    return sorted(faults.values(), key=lambda fault: fault.pointer)[:MOST_FAULTS]


def meant(word: Any, options: Iterable[str]) -> str | None:
    """Return the one of `options` that `word` looks like a slip of the pen for."""
    if not isinstance(word, str) or len(word) > _LONGEST_NAME:
        return None
    spelt = {option.lower().replace("_", ""): option for option in options}
    close = get_close_matches(word.lower().replace("_", "").replace("-", ""), spelt, n=1)
    return spelt[close[0]] if close else None


def did_you_mean(word: Any, options: Iterable[str]) -> str | None:
    """Return the hint that goes with `meant`."""
    option = meant(word, options)
    return f"did you mean {option!r}?" if option else None


def listed(options: Iterable[Any]) -> str:
    """Return `'a', 'b' or 'c'`."""
    *most, last = (repr(option) for option in options)
    return f"{', '.join(most)} or {last}" if most else last


def _faults_of(error: ValidationError, shared: Json) -> Iterator[Fault]:
    path = list(error.absolute_path)
    schema = error.schema if isinstance(error.schema, dict) else {}
    value: Any = error.instance
    if error.validator == "required":
        yield from _missing(value, path, schema, shared)
    elif error.validator == "additionalProperties":
        yield from _unknown(value, path, schema)
    else:
        name = str(path[-1]) if path else "the body"
        options = [option for option in schema.get("enum", ()) if isinstance(option, str)]
        yield Fault(
            pointer=pointer(path),
            message=_sentence(f"{name} {_wrong(error)}", schema),
            hint=did_you_mean(value, options),
        )


def _missing(value: Json, path: list[str | int], schema: Json, shared: Json) -> Iterator[Fault]:
    for name in schema["required"]:
        if name not in value:
            about = schema.get("properties", {}).get(name, {})
            about = shared.get(about.get("$ref", "").rpartition("/")[2], about)
            yield Fault(
                pointer=pointer([*path, name]), message=_sentence(f"{name} is missing", about)
            )


def _unknown(value: Json, path: list[str | int], schema: Json) -> Iterator[Fault]:
    known = schema.get("properties", {})
    free = [name for name in known if name not in value]
    for name in value:
        if name not in known:
            yield Fault(
                pointer=pointer([*path, name]),
                message=f"{name[:_LONGEST_NAME]} is not a field here; leave it out.",
                hint=did_you_mean(name, free),
            )


def _sentence(wrong: str, schema: Json) -> str:
    remedy = schema.get("description")
    return f"{wrong}. {remedy}" if remedy else f"{wrong}."


def _wrong(error: ValidationError) -> str:
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            kinds = wanted if isinstance(wanted, list) else [wanted]
            return "must be " + " or ".join(_KINDS[kind] for kind in kinds)
        case "enum":
            return f"must be {listed(wanted)}"
        case "const":
            return f"must be {wanted!r}"
        case keyword:
            return _WRONG.get(str(keyword), "does not fit").format(wanted)


#: What to say of the other keywords that our schemas use.
_WRONG: Final = {
    "pattern": "does not have the form that it must have",
    "minLength": "is shorter than {} characters",
    "maxLength": "is longer than {} characters",
    "minItems": "must hold at least {}",
    "maxItems": "must hold at most {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "minProperties": "must hold at least {}",
    "uniqueItems": "must hold nothing twice",
}


@cache
def _ecma(pattern: str) -> re.Pattern[str]:
    """Compile as JSON Schema means it: ASCII classes, and `$` is the end, not before a newline."""
    if pattern.endswith("$") and not pattern.endswith(r"\$"):
        pattern = pattern[:-1] + r"\Z"
    return re.compile(pattern, re.ASCII)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if validator.is_type(instance, "string") and not _ecma(pattern).search(instance):
        yield ValidationError("the pattern does not match")


#: The validator that explains; it differs from the library's in reading patterns as ECMA-262 does.
_extend: Final[Any] = validators.extend  # the library leaves it untyped
ExplainingValidator: Final[Any] = _extend(Draft202012Validator, {"pattern": _pattern})
