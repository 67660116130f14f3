"""ENT: one function that the sandbox can call, with one argument."""

from __future__ import annotations

import ast
from typing import Final

from .report import Report
from .tree import Tree

#: What each kind is called by, and what its one parameter is called in the documents.
ENTRIES: Final = {"transformer": ("transform", "data"), "script": ("main", "params")}


def look(tree: Tree, report: Report, kind: str) -> None:
    """Find the entry point and say what is wrong with it."""
    name, parameter = ENTRIES[kind]
    bindings = [node for node in tree.nodes if name in _binds(tree, node)]
    _look_at_module_level(tree, report)
    if not bindings:
        report.add("ENT001", None, _missing(tree, kind))
        return
    for again in bindings[1:]:
        report.add("ENT006", again, f"{name} is bound more than once; the last one counts")
    last = bindings[-1]
    if isinstance(last, ast.AsyncFunctionDef):
        report.add("ENT003", last, f"{name} is async; nobody awaits it")
    elif isinstance(last, ast.FunctionDef):
        _look_at_function(tree, report, last, parameter)
    elif isinstance(value := _assigned(tree, last), ast.Lambda):
        _look_at_arguments(report, last, name, value.args, parameter)
    else:
        report.add("ENT002", last, f"{name} is not a function that can be looked at")
    if tree.parents.get(last) is not tree.root and not isinstance(last, ast.Name):
        report.add("ENT007", last, f"{name} is only there under a condition")


def _binds(tree: Tree, node: ast.AST) -> list[str]:
    """Return the names that a node binds in the module."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            bound = [name]
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            bound = [name]
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            bound = [alias.asname or alias.name for alias in aliases]
        case _:
            return []
    return [] if next(tree.scopes(node), None) is not None else bound


def _assigned(tree: Tree, name: ast.AST) -> ast.expr | None:
    match tree.parents.get(name):
        case ast.Assign(targets=[_], value=value) | ast.AnnAssign(value=value):
            return value
        case _:
            return None


def _missing(tree: Tree, kind: str) -> str:
    name, parameter = ENTRIES[kind]
    for other, (its_name, _) in ENTRIES.items():
        if other != kind and any(its_name in _binds(tree, node) for node in tree.nodes):
            return f"a {kind} needs {name}({parameter}); {its_name} is what a {other} has"
    return f"a {kind} needs a function {name}({parameter})"


def _look_at_function(tree: Tree, report: Report, node: ast.FunctionDef, parameter: str) -> None:
    _look_at_arguments(report, node, node.name, node.args, parameter)
    inside = [below for below in tree.nodes if tree.function_of(below) is node]
    if any(isinstance(below, ast.Yield | ast.YieldFrom) for below in inside):
        report.add("ENT004", node, f"{node.name} is a generator; its values are never taken")
    elif not any(isinstance(below, ast.Return) and below.value is not None for below in inside):
        report.add("ENT008", node, f"{node.name} returns nothing")
    for decorator in node.decorator_list:
        report.add("ENT005", decorator, f"{node.name} is decorated: what is called may differ")


def _look_at_arguments(
    report: Report, node: ast.AST, name: str, arguments: ast.arguments, parameter: str
) -> None:
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    named = [
        arg
        for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    if required > 1 or named or not (positional or arguments.vararg):
        report.add("ENT002", node, f"{name} must be callable with one positional argument")
    elif len(positional) != 1 or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        report.add("ENT009", node, f"{name} is called with one argument and never with more")
    elif positional[0].arg != parameter:
        report.add("ENT010", positional[0], f"the parameter is called {parameter} in the documents")


def _look_at_module_level(tree: Tree, report: Report) -> None:
    for node in tree.nodes:
        at_import = isinstance(node, ast.Call | ast.For | ast.While | ast.With)
        if (
            at_import
            and isinstance(tree.parents.get(node), ast.Expr | ast.Module)
            and next(tree.scopes(node), None) is None
        ):
            report.add("ENT011", node, "work at module level runs before the entry is called")
