"""DUN: format templates that reach attributes, and names that are put together at run time."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .report import Report
from .tree import Tree

_DUNDER: Final = re.compile(r"__[a-z_]+__")
_FIELD: Final = re.compile(r"\{[^{}]*[.\[][^{}]*__[a-z]")
_STARTS: Final = re.compile(r"__[a-z]*\Z")
_GETTERS: Final = {"vformat", "get_field"}


def look(tree: Tree, report: Report, lists: Mapping[str, Any]) -> None:
    """Look at texts, at what is put together of them, and at what is done with templates."""
    seeker = _Seeker(tree, report, lists)
    for node in tree.nodes:
        if tree.parents.get(node) in seeker.told:
            seeker.told.add(node)
        match node:
            case ast.Constant(value=str(text)) if not _is_remark(tree, node):
                seeker.literal(node, text)
            case ast.BinOp() | ast.JoinedStr() | ast.Subscript():
                seeker.assembled(node)
            case ast.Call():
                seeker.assembled(node)
            case ast.Attribute(attr="format" | "format_map" | "vformat" | "get_field"):
                seeker.template(node)
            case _:
                pass


class _Seeker:
    """Holds texts against the lists; the innermost of nested expressions is told once."""

    def __init__(self, tree: Tree, report: Report, lists: Mapping[str, Any]) -> None:
        self.tree = tree
        self.report = report
        self.dangerous = set(lists["dangerous_texts"])
        self.whole = set(lists["inner_attributes"]) | set(lists["refused_builtins"])
        self.inner = set(lists["inner_attributes"])
        self.told: set[ast.AST | None] = set()

    def literal(self, node: ast.Constant, text: str) -> None:
        """Judge a text that stands in the source."""
        if _FIELD.search(text):
            self.report.add("DUN006", node, "a template that reaches into attributes")
        elif self._names(text) or text in self.inner:
            self.report.add("DUN010", node, "a text that names the interpreter's own attributes")

    def assembled(self, node: ast.expr) -> None:
        """Judge a text that is put together from others."""
        if node in self.told:
            return
        text = self.tree.folded.text(node)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        hidden = text is not None and (self._names(text) or text in self.whole)
        if hidden or (text is None and _starts_a_dunder(node)):
            self.told.add(node)
            self.report.add("DUN011", node, "a name of the interpreter's own is put together here")

    def template(self, node: ast.Attribute) -> None:
        """Judge `template.format(...)`: with a template that nobody sees it reads any attribute."""
        parent = self.tree.parents.get(node)
        called = isinstance(parent, ast.Call) and parent.func is node
        text = self.tree.folded.text(node.value)
        if node.attr in _GETTERS or not called:
            self.report.add("DUN007", node, f"{node.attr} is handed about, or reads attributes")
        elif not isinstance(text, str):
            self.report.add("DUN007", node, f"{node.attr} of a template that cannot be seen here")
        elif any(self._reaches(field) for field in _fields(text)):
            self.report.add("DUN006", node, "a template that reaches into attributes")

    def _names(self, text: str) -> bool:
        return any(found in self.dangerous for found in _DUNDER.findall(text))

    def _reaches(self, field: str) -> bool:
        parts = re.split(r"[.\[\]]", field)[1:]
        return any(part.startswith("_") or part in self.inner for part in parts)


def _fields(template: str) -> Iterator[str]:
    """Give the fields of a template, those in widths too."""
    try:
        for _, field, spec, _ in string.Formatter().parse(template):
            if field:
                yield field
            if spec and "{" in spec:
                yield from re.findall(r"\{([^{}:!]*)", spec)
    except ValueError:
        return  # it is no template: format() will say so


def _starts_a_dunder(node: ast.expr) -> bool:
    """Tell whether an expression puts something unknown behind `__`."""
    match node:
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), ast.FormattedValue(), *_]):
            return _STARTS.fullmatch(start) is not None
        case ast.BinOp(left=ast.Constant(value=str(start)), op=ast.Add()):
            return _STARTS.fullmatch(start) is not None
        case ast.BinOp(left=ast.Constant(value=str(start)), op=ast.Mod()):
            return re.match(r"__[a-z]*%", start) is not None
        case _:
            return False


def _is_remark(tree: Tree, node: ast.Constant) -> bool:
    """Tell whether a text is a docstring, or stands alone as one."""
    return isinstance(tree.parents.get(node), ast.Expr)
