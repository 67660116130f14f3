"""FUN: functions that a util has no use for, called or merely named."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Final

from .report import Report, shown
from .tree import Tree

_ATTRIBUTE_ACCESS: Final = {"getattr", "setattr", "delattr", "hasattr"}


def look(tree: Tree, report: Report, lists: Mapping[str, Any], kind: str) -> None:
    """Look at every name that may mean a builtin, and at every call."""
    refused: Mapping[str, str] = lists["refused_builtins"]
    members: Mapping[str, str] = lists["refused_members"]
    files = set(lists["opens_files"]) if kind == "transformer" else set()
    for node in tree.nodes:
        if isinstance(node, ast.Name):
            _look_at_name(tree, report, node, refused, files)
        elif isinstance(node, ast.Attribute):
            _look_at_member(tree, report, node, members, files)
        elif isinstance(node, ast.ImportFrom):
            _look_at_imported(report, node, members, files)
        elif isinstance(node, ast.Call):
            _look_at_call(tree, report, node)


def _look_at_name(
    tree: Tree, report: Report, node: ast.Name, refused: Mapping[str, str], files: set[str]
) -> None:
    if node.id in tree.imported or tree.is_local(node, node.id):
        return
    if not isinstance(node.ctx, ast.Load):
        if node.id in refused:
            report.add("FUN007", node, f"{node.id} is rebound, which hides what is called")
    elif node.id in refused:
        report.add("FUN001", node, f"{node.id} {refused[node.id]}")
    elif node.id in files:
        report.add("FUN002", node, f"{node.id} opens files, and a transformer has none")
    elif node.id == "memoryview":
        report.add("FUN008", node, "memoryview reaches past what Python checks")
    elif node.id in _ATTRIBUTE_ACCESS and not _is_called(tree, node):
        report.add("FUN004", node, f"{node.id} is handed about, so nobody sees what it reads")


def _look_at_member(
    tree: Tree, report: Report, node: ast.Attribute, members: Mapping[str, str], files: set[str]
) -> None:
    for path in tree.imported_meanings(node):
        if path in members:
            report.add("FUN006", node, f"{path} {members[path]}")
        elif path in files:
            report.add("FUN002", node, f"{path} opens files, and a transformer has none")


def _look_at_imported(
    report: Report, node: ast.ImportFrom, members: Mapping[str, str], files: set[str]
) -> None:
    for alias in node.names:
        path = f"{node.module}.{alias.name}"
        if path in members:
            report.add("FUN006", alias, f"{shown(path)} {members[path]}")
        elif path in files:
            report.add("FUN002", alias, f"{path} opens files, and a transformer has none")


def _look_at_call(tree: Tree, report: Report, node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name) or tree.is_local(node.func, node.func.id):
        return
    name = node.func.id
    if name in _ATTRIBUTE_ACCESS and len(node.args) > 1:
        if tree.folded.text(node.args[1]) is None:
            report.add("FUN003", node, f"{name} with a name that is made at run time")
    elif name in _ATTRIBUTE_ACCESS:
        report.add("FUN003", node, f"{name} whose name cannot be seen")
    elif name == "type" and (len(node.args) > 1 or node.keywords):
        report.add("FUN005", node, "type() with three arguments makes a class at run time")


def _is_called(tree: Tree, node: ast.AST) -> bool:
    parent = tree.parents.get(node)
    return isinstance(parent, ast.Call) and parent.func is node
