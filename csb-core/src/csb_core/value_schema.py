"""JSON Schemas that tenants bring: which of them we take, and how a value is held against one.

Such a schema is as little trusted as code. It must not fetch anything, run for ever, or take the
process with it, so: references stay inside it and end, patterns are of the linear-time kind (no
backtracking), and before a value is looked at, what that can cost at most is known from the number
of values at each depth and of the schemas that may apply there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import orjson

from csb_core.faults import MOST_FAULTS, Fault, Invalid, pointer
from csb_core.models import Json
from csb_core.schema_reach import MOST_WORK, reach

LARGEST_BYTES: Final = 65_536
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

#: To name every fault takes so many times as long as to find the first.
_EXPLAINING: Final = 500

_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=65_536, dfa_size_limit=262_144)


@dataclass(slots=True)
class Allowance:
    """What checks may cost together; several that answer one call share one."""

    left: int = MOST_WORK

    def spend(self, work: int) -> bool:
        """Take so much, and return True, if so much is left."""
        if work > self.left:
            return False
        self.left -= work
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSchema:
    """A schema that was found harmless, compiled."""

    validator: jsonschema_rs.Validator
    #: Of the schemas that may apply to a value at each depth, what they cost together.
    work_at: tuple[int, ...]

    def faults(
        self, value: Any, at: str = "", *, allowance: Allowance | None = None
    ) -> list[Fault]:
        """Return what is wrong with a value that stands at the pointer `at`; none when it fits."""
        allowance = allowance or Allowance()
        work = self._work(value)
        if not allowance.spend(work):
            return [Fault(pointer=at, message="It is too large for what its schema asks of it.")]
        if self.validator.is_valid(value):
            return []
        if not allowance.spend(work * _EXPLAINING):
            return [_first(self.validator, value, at)]
        return list(islice((_told(e, at) for e in self.validator.iter_errors(value)), MOST_FAULTS))

    def _work(self, value: Any) -> int:
        return sum(
            values * schemas
            for values, schemas in zip(_values_by_depth(value), self.work_at, strict=False)
        )


def compiled(schema: Json, at: str = "") -> ValueSchema:
    """Return the schema that stands at the pointer `at`, ready; raises Invalid with its faults."""
    _require_small(schema, at)
    try:
        jsonschema_rs.meta.validate(schema)
        work_at = reach(schema, at)
        validator = jsonschema_rs.Draft202012Validator(
            schema, pattern_options=_PATTERNS, offline=True, mask="the value"
        )
    except jsonschema_rs.ValidationError as exc:
        raise Invalid([_told(exc, at, "as JSON Schema: ")]) from exc
    return ValueSchema(validator=validator, work_at=work_at)


def _require_small(schema: Json, at: str) -> None:
    if len(orjson.dumps(schema)) > LARGEST_BYTES:
        raise Invalid([Fault(pointer=at, message=f"A schema holds at most {LARGEST_BYTES} bytes.")])
    dialect = schema.get("$schema", DIALECT)
    if dialect != DIALECT:
        message = f"$schema must be {DIALECT}, or left out."
        raise Invalid([Fault(pointer=f"{at}/$schema", message=message)])


def _values_by_depth(value: Any) -> Iterator[int]:
    """Give how many values stand at each depth; a long text, or a name, counts for more."""
    level = [value]
    while level:
        deeper: list[Any] = []
        size = len(level)
        for item in level:
            if isinstance(item, str):
                size += len(item) // 64
            elif isinstance(item, list):
                deeper += item
            elif isinstance(item, dict):
                deeper += item.values()
                deeper += item
        yield size
        level = deeper


def _first(validator: jsonschema_rs.Validator, value: Any, at: str) -> Fault:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as exc:
        return _told(exc, at)
    return Fault(pointer=at, message="It does not fit its schema.")


def _told(error: jsonschema_rs.ValidationError, at: str, before: str = "") -> Fault:
    """Return a fault without the value itself, which might be a secret."""
    place = at + pointer(error.instance_path)
    message = error.message if len(error.message) <= 500 else f"{error.message[:500]} ..."
    return Fault(pointer=place, message=f"{before}{message}.")
