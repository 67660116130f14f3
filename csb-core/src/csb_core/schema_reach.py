"""How far a tenant's JSON Schema reaches: what applies where, and what that costs at most.

A schema applies others to the same value and to what is in it, by its keywords and by references.
Both may multiply without end, or go in circles; here that is found out before anything runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import orjson

from csb_core.body import DEEPEST
from csb_core.faults import MOST_FAULTS, Fault, Invalid, pointer
from csb_core.models import Json

MOST_NODES: Final = 500
#: The compiler writes out what a reference names, once for each time it is named.
MOST_WRITTEN_OUT: Final = 5000
#: Each compiled pattern takes memory of its own.
MOST_PATTERNS: Final = 16
#: Larger numbers are all the same: too much.
MOST_WORK: Final = 20_000_000
_MOST_STEPS: Final = 500_000

#: Keywords that would let a schema reach out of itself, or whose cost nothing here bounds.
_REFUSED: Final = {
    "$id": "name nothing, and refer by #/... only",
    "$anchor": "refer by #/... instead",
    "$dynamicRef": "use $ref",
    "$dynamicAnchor": "use $ref",
    "$recursiveRef": "use $ref",
    "$recursiveAnchor": "use $ref",
    "$vocabulary": "leave it out",
    "unevaluatedProperties": "use additionalProperties",
    "unevaluatedItems": "use items",
}

#: Where schemas stand inside a schema: on the same value, on what is inside of it, or to be named.
_HERE_ONE: Final = ("not", "if", "then", "else")
_HERE_LIST: Final = ("allOf", "anyOf", "oneOf")
_HERE_MAP: Final = ("dependentSchemas",)
_PARTS_ONE: Final = ("items", "contains", "additionalProperties", "propertyNames")
_PARTS_MAP: Final = ("patternProperties",)
_PART_LIST: Final = ("prefixItems",)
_PART_MAP: Final = ("properties",)
_NAMED_MAP: Final = ("$defs", "definitions")

Path = tuple[str | int, ...]
Counts = Mapping[Path, int]


@dataclass(slots=True)
class _Node:
    """One schema inside a schema: what it costs by itself, and which others it applies.

    `here` are applied to the same value, `inside` to what is in it: to every part under the name
    None, else to the one part of that name.
    """

    weight: int
    here: list[Path]
    inside: list[tuple[str | int | None, Path]]
    refers_to: Path | None = None


def reach(schema: Json, at: str) -> tuple[int, ...]:
    """Return, depth by depth, what the schemas cost that may apply to any one value there.

    A unit is about five nanoseconds. Raises Invalid with what we do not take; `schema` is
    a valid one, and stands at the pointer `at`.
    """
    nodes = _nodes(schema, at)
    order = _in_order(nodes, at)
    _require_short(nodes, at)
    return tuple(_work_by_depth(nodes, _together(nodes, order), at))


def _nodes(schema: Json, at: str) -> dict[Path, _Node]:
    """Return every schema inside this one by its path, with what it applies where."""
    nodes: dict[Path, _Node] = {}
    waiting: list[Path] = [()]
    faults: list[Fault] = []
    patterns = 0
    while waiting and len(faults) < MOST_FAULTS:
        path = waiting.pop()
        if path in nodes:
            continue
        if len(nodes) >= MOST_NODES:
            faults.append(Fault(pointer=at, message=f"It holds more than {MOST_NODES} schemas."))
            break
        found = _found(schema, path)
        nodes[path] = _Node(weight=_weight(found), here=[], inside=[])
        if not isinstance(found, dict):
            continue
        faults += _refused(found, path, at)
        patterns += ("pattern" in found) + len(found.get("patternProperties", ()))
        reference = found.get("$ref")
        if isinstance(reference, str):
            target = _target(schema, reference)
            if target is None:
                message = "A $ref must be # or #/..., and lead to a schema in this one."
                faults.append(Fault(pointer=at + pointer((*path, "$ref")), message=message))
            else:
                nodes[path].refers_to = target
                nodes[path].here.append(target)
        nodes[path].here += _applied(found, path, _HERE_ONE, _HERE_LIST, _HERE_MAP)
        parts = _applied(found, path, _PARTS_ONE, (), _PARTS_MAP)
        part = _applied(found, path, (), _PART_LIST, _PART_MAP)
        nodes[path].inside += [(None, applied) for applied in parts]
        nodes[path].inside += [(applied[-1], applied) for applied in part]
        waiting += nodes[path].here
        waiting += (applied for _, applied in nodes[path].inside)
        waiting += _applied(found, path, (), (), _NAMED_MAP)
    if patterns > MOST_PATTERNS:
        faults.append(Fault(pointer=at, message=f"It holds more than {MOST_PATTERNS} patterns."))
    if faults:
        raise Invalid(faults)
    return nodes


def _found(schema: Any, path: Path) -> Any:
    for step in path:
        schema = schema[step]
    return schema


def _refused(schema: Json, path: Path, at: str) -> Iterator[Fault]:
    for keyword, remedy in _REFUSED.items():
        if keyword in schema:
            place = at + pointer((*path, keyword))
            yield Fault(pointer=place, message=f"{keyword} is not taken here; {remedy}.")


def _applied(
    schema: Json, path: Path, ones: Sequence[str], lists: Sequence[str], maps: Sequence[str]
) -> Iterator[Path]:
    for name in ones:
        if isinstance(schema.get(name), dict):
            yield (*path, name)
    for name in lists:
        if isinstance(schema.get(name), list):
            yield from ((*path, name, index) for index in range(len(schema[name])))
    for name in maps:
        if isinstance(schema.get(name), dict):
            yield from ((*path, name, key) for key in schema[name])


def _target(schema: Json, reference: str) -> Path | None:
    """Return where a reference leads; None when that is nowhere in this schema."""
    if reference == "#":
        return ()
    if not reference.startswith("#/"):
        return None
    here: Any = schema
    path: list[str | int] = []
    for token in unquote(reference[2:]).split("/"):
        step: str | int = token.replace("~1", "/").replace("~0", "~")
        if isinstance(here, list) and token.isascii() and token.isdigit() and len(token) < 6:
            step = int(token)
            if step >= len(here):
                return None
        elif not isinstance(here, dict) or step not in here:
            return None
        here = here[step]
        path.append(step)
    return tuple(path) if isinstance(here, dict | bool) else None


def _weight(schema: Any) -> int:
    if not isinstance(schema, dict):
        return 1
    options, form = schema.get("enum", ()), schema.get("pattern", "")
    listed = 20 * len(options) if isinstance(options, list) else 0
    length = len(form) if isinstance(form, str) else 0
    return 1 + len(schema) + listed + length + len(orjson.dumps(schema.get("const"))) // 8


def _in_order(nodes: dict[Path, _Node], at: str) -> list[Path]:
    """Return the schemas so that each comes before those it applies to the same value.

    Raises Invalid when there is no such order: a reference then leads back to itself for ever.
    """
    incoming = dict.fromkeys(nodes, 0)
    for node in nodes.values():
        for path in node.here:
            incoming[path] += 1
    free = [path for path, count in incoming.items() if count == 0]
    order: list[Path] = []
    while free:
        order.append(free.pop())
        for path in nodes[order[-1]].here:
            incoming[path] -= 1
            if incoming[path] == 0:
                free.append(path)
    if len(order) < len(nodes):
        stuck = next(path for path, count in incoming.items() if count)
        message = "It refers to itself without going deeper into the value, so it never ends."
        raise Invalid([Fault(pointer=at + pointer(stuck), message=message)])
    return order


def _require_short(nodes: dict[Path, _Node], at: str) -> None:
    """Follow every reference that the compiler would write out; a circle it only notes."""
    written = 0
    waiting: list[tuple[Path, frozenset[Path]]] = [((), frozenset([()]))]
    while waiting:
        path, within = waiting.pop()
        written += 1
        if written > MOST_WRITTEN_OUT:
            message = f"With its references written out it holds more than {MOST_WRITTEN_OUT}."
            raise Invalid([Fault(pointer=at, message=message)])
        node = nodes[path]
        for applied in (*node.here, *(applied for _, applied in node.inside)):
            if applied != node.refers_to:
                waiting.append((applied, within))
            elif applied not in within:
                waiting.append((applied, within | {applied}))


def _together(nodes: dict[Path, _Node], order: list[Path]) -> dict[Path, Counts]:
    """Return for each schema which schemas apply to a value that it applies to, and how often."""
    together: dict[Path, Counts] = {}
    for path in reversed(order):
        counts = {path: 1}
        for applied in nodes[path].here:
            for other, count in together[applied].items():
                counts[other] = min(counts.get(other, 0) + count, MOST_WORK)
        together[path] = counts
    return together


def _work_by_depth(
    nodes: dict[Path, _Node], together: dict[Path, Counts], at: str
) -> Iterator[int]:
    level = together[()]
    steps = 0
    for _ in range(DEEPEST + 1):
        work = sum(count * nodes[path].weight for path, count in level.items())
        if not work:
            return
        yield min(work, MOST_WORK)

        parts: defaultdict[str | int | None, list[tuple[Counts, int]]] = defaultdict(list)
        for path, count in level.items():
            for name, applied in nodes[path].inside:
                parts[name].append((together[applied], count))
                steps += len(together[applied])
        if steps > _MOST_STEPS:
            raise Invalid([Fault(pointer=at, message="It is too entangled; make it simpler.")])
        level = _worst(parts)


def _worst(parts: dict[str | int | None, list[tuple[Counts, int]]]) -> Counts:
    """Return how often each schema applies to whichever part it applies to most."""
    to_every = _summed(parts.pop(None, ()))
    worst: dict[Path, int] = {}
    for to_one in parts.values():
        for path, count in _summed(to_one).items():
            worst[path] = max(worst.get(path, 0), count)
    for path, count in to_every.items():
        worst[path] = min(worst.get(path, 0) + count, MOST_WORK)
    return worst


def _summed(several: Iterable[tuple[Counts, int]]) -> Counts:
    total: dict[Path, int] = {}
    for counts, times in several:
        for path, count in counts.items():
            total[path] = min(total.get(path, 0) + count * times, MOST_WORK)
    return total
