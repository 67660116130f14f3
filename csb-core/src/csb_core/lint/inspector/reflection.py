"""DUN: attributes and names that lead from any object to the interpreter's own."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from .report import Report, shown
from .tree import Tree


def look(tree: Tree, report: Report, lists: Mapping[str, Any]) -> None:
    """Look at every attribute, name, class, handler and pattern."""
    seeker = _Seeker(tree, report, lists)
    for node in tree.nodes:
        match node:
            case ast.Attribute():
                seeker.attribute(node, node.value, node.attr)
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "delattr" | "hasattr")):
                seeker.attribute_by_name(node)
            case ast.Name():
                seeker.name(node)
            case ast.ClassDef():
                seeker.class_definition(node)
            case ast.MatchClass():
                seeker.pattern(node)
            case ast.TryStar():
                report.add("DUN009", node, "except* has confused the types that checks rely on")
            case _:
                pass


class _Seeker:
    """Holds what it meets against the lists."""

    def __init__(self, tree: Tree, report: Report, lists: Mapping[str, Any]) -> None:
        self.tree = tree
        self.report = report
        self.harmless = set(lists["harmless_dunders"])
        self.inner = set(lists["inner_attributes"])
        self.of_exceptions = set(lists["exception_attributes"])
        self.hooks: Mapping[str, str] = lists["class_hooks"]
        self.refused_names: Mapping[str, str] = lists["refused_names"]
        self.handled = _exceptions(tree)

    def attribute(self, node: ast.AST, owner: ast.expr | None, name: str) -> None:
        """Judge the reading or writing of one attribute."""
        if name in self.inner:
            self.report.add("DUN002", node, f"{name} leads to frames, code or classes")
        elif is_dunder(name) and name not in self.harmless:
            self.report.add("DUN001", node, f"{shown(name)} leads to the interpreter's own objects")
        elif name.startswith("_Printer__"):
            self.report.add("DUN001", node, f"{shown(name)} is inside of a printer of files")
        elif name in self.of_exceptions and self._is_exception(owner):
            self.report.add("DUN008", node, f"{name} of an exception gives the object that failed")

    def attribute_by_name(self, node: ast.Call) -> None:
        """Judge `getattr(x, "name")` as `x.name`."""
        name = self.tree.folded.text(node.args[1]) if len(node.args) > 1 else None
        if isinstance(name, str):
            self.attribute(node, node.args[0], name)

    def name(self, node: ast.Name) -> None:
        """Judge one name."""
        if self.tree.is_local(node, node.id):
            return
        if node.id in self.refused_names:
            self.report.add("DUN003", node, f"{node.id} {self.refused_names[node.id]}")

    def class_definition(self, node: ast.ClassDef) -> None:
        """Judge metaclasses, and methods that Python calls by itself."""
        for keyword in node.keywords:
            harmless = self.tree.names(keyword.value, "abc.ABCMeta", "enum.EnumMeta")
            if keyword.arg == "metaclass" and not harmless:
                self.report.add("DUN005", keyword.value, "a metaclass runs when a class is made")
        for base in node.bases:
            if self.tree.names(base, "type"):
                self.report.add("DUN005", base, "a class that inherits from type is a metaclass")
        for statement in node.body:
            for place, name in _defines(statement):
                if name in self.hooks:
                    self.report.add("DUN004", place, f"{name} {self.hooks[name]}")

    def pattern(self, node: ast.MatchClass) -> None:
        """Judge `case Error(obj=x)`, which reads attributes without naming them as such."""
        for name in node.kwd_attrs:
            if name in self.of_exceptions:
                self.report.add("DUN008", node, f"the pattern takes {name} out of an exception")
            else:
                self.attribute(node, None, name)

    def _is_exception(self, owner: ast.expr | None) -> bool:
        """Tell whether an expression may be an exception: caught, or reached from one."""
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        return isinstance(owner, ast.Name) and owner.id in self.handled


def is_dunder(name: str) -> bool:
    """Tell whether a name is one that Python gives a meaning of its own."""
    return len(name) > 4 and name.startswith("__") and name.endswith("__")


def _defines(statement: ast.stmt) -> list[tuple[ast.AST, str]]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [(statement, name)]
        case ast.Assign(targets=targets):
            return [(t, t.id) for t in targets if isinstance(t, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [(statement, name)]
        case _:
            return []


def _exceptions(tree: Tree) -> set[str]:
    """Return the names that hold exceptions: caught, handed to __exit__, or either's other name."""
    found: set[str] = set()
    for node in tree.nodes:
        match node:
            case ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.FunctionDef(name="__exit__" | "__aexit__", args=arguments):
                found.update(argument.arg for argument in arguments.args[2:3])
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=other)):
                found.update({name} if other in found else ())
            case _:
                pass
    return found
