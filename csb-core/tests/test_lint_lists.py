"""The validator's lists against the Python that is here."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from csb_core.lint.inspector import program
from csb_core.lint.rulebook import rulebook
from csb_core.local.layout import Layout
from csb_core.testing import ROOT

LISTS = rulebook().lists
ALLOWED = sorted({*LISTS["modules"]["both"], *LISTS["modules"]["script"], *LISTS["submodules"]})


def found(source: str) -> dict[int, set[str]]:
    said = ("description", "owner", "input_schema", "output_schema", "limits")
    answer = program.inspect(
        {
            "source": f"{source}\ndef main(params):\n    return params\n",
            "kind": "script",
            "declared": dict.fromkeys(said, True) | {"dependencies": []},
            "rules": [],
            "allowed_packages": {},
            "lists": dict(LISTS),
        }
    )
    lines: dict[int, set[str]] = {}
    for rule, line, _, _ in answer["found"]:
        lines.setdefault(line, set()).add(rule)
    return lines


def members(module: str) -> dict[str, Any]:
    return vars(importlib.import_module(module))


@pytest.mark.parametrize("module", ALLOWED)
def test_no_module_leads_to_one_that_is_not_allowed(module: str) -> None:
    """What hangs on an allowed module is on the list itself, or refused."""
    others = [
        name
        for name, value in members(module).items()
        if isinstance(value, ModuleType)
        and value.__name__ not in {*ALLOWED, "posixpath"}
        and not value.__name__.startswith(f"{module}.")
        and "__" not in name
    ]
    for name in others:
        told = found(f"import {module}\nx = {module}.{name}").get(2, set())
        assert told & {"IMP001", "IMP007", "IMP009", "FUN006"}, f"{module}.{name} is let through"


@pytest.mark.parametrize("module", sorted({*ALLOWED} - {*LISTS["members"], "__future__"}))
def test_no_public_part_of_an_allowed_module_is_taken_for_a_module(module: str) -> None:
    # None on this system, and two that pretend to be modules.
    refused = {*LISTS["refused_members"], "shutil.nt", "typing.io", "typing.re"}
    own = [
        name
        for name, value in members(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and (getattr(value, "__module__", None) or module).startswith(module.partition(".")[0])
        and f"{module}.{name}" not in refused
    ]
    for name in own:
        told = found(f"import {module}\nx = {module}.{name}").get(2, set())
        assert not told & {"IMP001", "IMP007"}, f"{module}.{name}"


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Path:
    """What jails hold besides the standard library."""
    installed = Layout.of(ROOT, {}).packages
    monkeypatch.syspath_prepend(installed)
    return installed


@pytest.mark.parametrize("module", LISTS["members"])
@pytest.mark.usefixtures("packages")
def test_the_parts_that_may_be_used_are_there(module: str) -> None:
    found = importlib.import_module(module)
    missing = [
        name
        for name in LISTS["members"][module]
        if not hasattr(found, name) and find_spec(f"{module}.{name}") is None
    ]
    assert missing == []


def test_every_package_that_ships_has_its_list(packages: Path) -> None:
    """Or it would hand out what it imports for itself: six.moves.builtins, yaml.UnsafeLoader."""
    held = {
        file.parts[0].removesuffix(".py")
        for package in distributions(path=[str(packages)])
        for file in package.files or ()
        if file.suffix == ".py"
    }
    assert held >= {"dateutil", "defusedxml", "six", "yaml"}
    assert held <= {*LISTS["members"], *LISTS["refused_modules"]}


def test_what_is_refused_by_path_is_there() -> None:
    for path in LISTS["refused_members"]:
        module, _, name = path.rpartition(".")
        if sys.version_info[:2] == (3, 11):
            assert name in members(module), f"{path} is refused and does not exist"


def test_no_module_is_both_allowed_and_refused() -> None:
    assert not {*ALLOWED} & {*LISTS["refused_modules"]}
    for module in ALLOWED:
        assert found(f"import {module}").get(1, set()) <= {"IMP002", "COM006"}, module
