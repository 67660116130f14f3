"""OWN: what a tenant's administrator wants besides; names and texts, with * for any part."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from .imports import modules_of
from .report import Report, shown
from .tree import Tree


def look(tree: Tree, report: Report, rules: Iterable[Mapping[str, str]]) -> None:
    """Hold the source against each rule."""
    for rule in rules:
        name, pattern = rule["name"], rule["pattern"]
        match rule["kind"]:
            case "max_lines":
                if len(report.lines) > int(pattern):
                    report.add(name, None, f"the source has {len(report.lines)} lines")
            case "require_docstring":
                _look_at_docstrings(tree, report, name, pattern)
            case kind:
                for node in tree.nodes:
                    broken = [f for f in _found(tree, node, kind) if fnmatchcase(f, pattern)]
                    if broken:
                        report.add(name, node, _told(kind, broken[0]))


def _found(tree: Tree, node: ast.AST, kind: str) -> list[str]:
    """Return what of a node a rule of this kind is held against."""
    match kind, node:
        case "forbid_import", ast.Import(names=aliases):
            return [module for alias in aliases for module in modules_of(alias.name)]
        case "forbid_import", ast.ImportFrom(module=module, names=aliases):
            path = module or ""
            return [*modules_of(path), *(f"{path}.{alias.name}" for alias in aliases)]
        case "forbid_call", ast.Call(func=function):
            last = [function.attr] if isinstance(function, ast.Attribute) else []
            return [*tree.meanings(function), *last]
        case "forbid_attribute", ast.Attribute(attr=name):
            return [name]
        case "forbid_name", ast.Name(id=name) | ast.arg(arg=name):
            return [name]
        case (
            "forbid_name",
            ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name),
        ):
            return [name]
        case "forbid_name", ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
            return [name]
        case "forbid_literal", ast.Constant(value=str(text)):
            return [text]
        case "forbid_literal", ast.Constant(value=bytes(data)):
            return [data.decode("utf-8", "replace")]
        case _:
            return []


def _told(kind: str, found: str) -> str:
    what = kind.removeprefix("forbid_")
    # A text may be the very secret that the rule looks for.
    return "a text that is not wanted" if what == "literal" else f"the {what} {shown(found)}"


def _look_at_docstrings(tree: Tree, report: Report, rule: str, pattern: str) -> None:
    if ast.get_docstring(tree.root) is None:
        report.add(rule, None, "the source has no docstring")
    for node in tree.nodes:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and fnmatchcase(node.name, pattern)
            and ast.get_docstring(node) is None
        ):
            report.add(rule, node, f"{shown(node.name)} has no docstring")
