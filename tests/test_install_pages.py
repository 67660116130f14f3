"""What the pages have one type on a cluster fits the charts: values, Secrets, the five commands."""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.house import ROOT, files, named, text

PAGES = [path for path in files(".md") if named(path).startswith(("docs/", "README"))]

#: The charts below the umbrella, and what it has values of its own for.
CHARTS = ("api-service", "worker", "postgres-db", "redis", "observability")
VALUE = re.compile(
    rf"(?<![\w./-])((?:global|{'|'.join(CHARTS)}|migrations|maintenance|console|smoke|backup"
    r"|externalSecrets|monitoring)(?:\.[a-zA-Z][\w-]*)+)(?![\w/])"
)


def _chart(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(text(ROOT / "helm" / name / "values.yaml"))
    return values


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        is_map = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = _merged(both[key], value) if is_map else value
    return both


@cache
def _values() -> dict[str, Any]:
    """The values of the umbrella over those of its charts, and of each worker over the defaults."""
    values = _merged({name: _chart(name) for name in CHARTS}, _chart("csecbridge"))
    worker = values["worker"]
    own = worker["workers"].items()
    worker["workers"] = {name: _merged(worker["defaults"], values) for name, values in own}
    return values


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_values_that_a_page_names_are_there(page: Path) -> None:
    code = re.findall(r"^ *```sh\n(.*?)^ *```|`([^`\n]+)`", text(page), re.DOTALL | re.MULTILINE)
    for said in VALUE.findall("\n".join(block or span for block, span in code)):
        found: Any = _values()
        for word in said.split("."):
            if not found or not isinstance(found, dict):
                break  # an empty map, or a list: whatever one puts there
            assert word in found, f"{named(page)}: the charts have no {said}"
            found = found[word]


def test_readme_installs_as_the_page_does() -> None:
    page = text(ROOT / "docs/install.md").partition("## From a cluster to a first request")[2]
    readme = text(ROOT / "README.md").partition("## On Kubernetes")[2]
    first = re.compile(r"```sh\n(.*?)```", re.DOTALL)
    assert first.findall(readme)[0] == first.findall(page)[0]


def test_the_secrets_that_a_page_names_are_those_that_are_made() -> None:
    program = runpy.run_path(str(ROOT / "helm/make_secrets.py"))
    made = program["made"](postgres="", database="", redis=None, redis_host="")
    page = text(ROOT / "docs/install.md").partition("| Secret | Keys |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(csb-[a-z-]+)` \| (.*?) \|", page, re.MULTILINE)
    role = re.compile(r"\(`csb_\w+`\)")  # in brackets, behind the key that it is in
    told = {name: set(re.findall(r"`([\w.]+)`", role.sub("", keys))) for name, keys in rows}
    assert told == {secret["metadata"]["name"]: set(secret["stringData"]) for secret in made}
