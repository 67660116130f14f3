"""What Kubernetes and the operators in it accept; fields that they do not know are refused."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource
from tests.deploy.charts import Manifest, named
from tests.house import ROOT

KUBERNETES: Final = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
OF_KUBERNETES: Final = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
#: Made of the operators' own definitions by tests/deploy/definitions.py.
OF_OPERATORS: Final = Path(os.environ.get("CSB_TOOLS_DIR", ROOT / ".run" / "tools")) / "definitions"


class Refused(Exception):
    """The manifest is not one that would be accepted."""


def check(manifest: Manifest, kubernetes: str) -> None:
    """Raise Refused unless this version of Kubernetes, or an operator in it, accepts it."""
    schema = _schema(manifest["apiVersion"], manifest["kind"], kubernetes)
    error = jsonschema.exceptions.best_match(schema.iter_errors(manifest))
    if error is not None:
        raise Refused(f"{named(manifest)}: {error.json_path}: {error.message}")


@cache
def _schema(api: str, kind: str, kubernetes: str) -> jsonschema.Draft202012Validator:
    folder = OF_KUBERNETES / f"v{kubernetes}.0-local-strict"
    group, _, version = api.rpartition("/")
    short = f"{group.partition('.')[0]}-{version}" if group else version
    for path in (
        OF_OPERATORS / group / version / f"{kind}.json",
        folder / f"{kind.lower()}-{short}.json",
    ):
        if path.exists():
            registry = _definitions(folder) if path.parent == folder else Registry()
            return jsonschema.Draft202012Validator(json.loads(path.read_text()), registry=registry)
    raise Refused(f"Kubernetes {kubernetes} knows no {kind} of {api}, nor does an operator")


@cache
def _definitions(folder: Path) -> Registry[Any]:
    resource: Resource[Any] = Resource.from_contents(
        json.loads((folder / "_definitions.json").read_text())
    )
    return resource @ Registry()
