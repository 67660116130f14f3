"""COM: what a util should say of itself, so that somebody else can run it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final

from .report import Report
from .tree import Tree

_WANTED: Final = (
    ("COM001", "description", "the util has no description"),
    ("COM002", "owner", "the util has no owner"),
    ("COM003", "input_schema", "the util does not say what it takes"),
    ("COM004", "output_schema", "the util does not say what it gives"),
    ("COM005", "limits", "the util declares no limits, so the defaults hold"),
)


def look(tree: Tree, report: Report, declared: Mapping[str, object]) -> None:
    """Name what is missing."""
    for rule, field, message in _WANTED:
        if not declared[field]:
            report.add(rule, None, message)
    if ast.get_docstring(tree.root) is None:
        report.add("COM006", None, "the source has no docstring that says what it is for")
