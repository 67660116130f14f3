"""What the services say in their lines, read from their sources, can be searched."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from tests.house import ROOT
from tests.logs.saved import mapped, query_of, searches

from csb_core import log
from worker_sandbox.meter import FORCED


def test_the_reasons_of_killed_utils_are_those_that_the_sandbox_gives() -> None:
    query = query_of(searches()["csb-utils-killed"])
    named = set(query.rpartition("(")[2].rstrip(")").split(" OR "))
    assert named == {*FORCED, "killed"}


def test_whatever_a_service_may_say_can_be_searched() -> None:
    found = {*_fields_in_the_sources(), *_in_paths()}
    assert {"principal_name", "status", "reason", "rule_id"} <= found
    known = mapped()
    at_the_top = {*log.TOP_FIELDS, "timestamp"}
    assert {name for name in found - at_the_top if f"context.{name}" not in known} == set()


def _fields_in_the_sources() -> Iterator[str]:
    """The names in `extra={...}`, in what is bound to lines, and in what helps to make these."""
    for path in ROOT.glob("*/src/*/**/*.py"):
        if {"local", "local_aws", "examples"} & set(path.parts):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        made = {f.name: f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            yield from _bound_by(call)
            for given in call.keywords:
                if given.arg == "extra" and isinstance(given.value, ast.Dict):
                    yield from _names_in(given.value, made)


def _in_paths() -> set[str]:
    """What the API binds of a call's path."""
    rooms = (ROOT / "api-service/src/api_service").glob("*routes*.py")
    return {name for room in rooms for name in re.findall(r"<(?:\w+:)?(\w+)>", room.read_text())}


def _bound_by(call: ast.Call) -> Iterator[str]:
    if ast.unparse(call.func) in {"log.start", "log.bind", "log.bound"}:
        yield from (given.arg for given in call.keywords if given.arg)


def _names_in(extra: ast.Dict, made: Mapping[str, ast.FunctionDef]) -> Iterator[str]:
    for name, value in zip(extra.keys, extra.values, strict=True):
        if isinstance(name, ast.Constant):
            yield str(name.value)
        elif isinstance(value, ast.Call) and ast.unparse(value.func) in made:
            (answer,) = (
                node.value
                for node in ast.walk(made[ast.unparse(value.func)])
                if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict)
            )
            yield from (str(k.value) for k in answer.keys if isinstance(k, ast.Constant))
