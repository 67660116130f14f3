"""CPX: what is too large or too entangled to be read, and constants that fill the memory."""

from __future__ import annotations

import ast
import math
import re
from typing import Final

from .report import Report, shown
from .tree import Tree

MOST_PATHS: Final = 15
MOST_LEVELS: Final = 6
MOST_LINES: Final = 100
MOST_NODES: Final = 20_000

#: A number of a million bits, ten million items.
_MOST_BITS: Final = 1_000_000.0
_MOST_ITEMS: Final = math.log2(10_000_000)

_PATHS: Final = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler,
                 ast.comprehension, ast.match_case, ast.Assert)  # fmt: skip
_LEVELS: Final = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.With, ast.Match)
_PADDING: Final = {"ljust", "rjust", "center", "zfill"}
_WIDTH: Final = re.compile(r"(?:%[-+ #0]*|^[^%{}]?[<>=^]?[-+ #0]*)(\d{7,})")


def look(tree: Tree, report: Report) -> None:
    """Measure functions, and look at constants."""
    if len(tree.nodes) > MOST_NODES:
        report.add(
            "CPX006", None, f"the source has {len(tree.nodes)} nodes, more than {MOST_NODES}"
        )
    _look_at_functions(tree, report)
    for node in tree.nodes:
        if told := _huge(tree, node):
            report.add("CPX004", node, told)


def _look_at_functions(tree: Tree, report: Report) -> None:
    paths: dict[ast.AST, int] = {}
    levels: dict[ast.AST, int] = {}
    told: set[ast.AST] = set()
    for node in tree.nodes:
        function = tree.function_of(node)
        if function is None:
            continue
        paths[function] = paths.get(function, 1) + _branches(node)
        above = tree.parents.get(node)
        level = 0 if above is None or above is function else levels.get(above, 0)
        levels[node] = level + (isinstance(node, _LEVELS) and not _is_elif(tree, node))
        if levels[node] > MOST_LEVELS and function not in told:
            told.add(function)
            report.add("CPX002", node, f"statements nest deeper than {MOST_LEVELS} levels")
    for function, count in paths.items():
        name = shown(getattr(function, "name", "lambda"))
        if count > MOST_PATHS:
            report.add("CPX001", function, f"{name} has {count} paths, more than {MOST_PATHS}")
        lines = (getattr(function, "end_lineno", 0) or 0) - getattr(function, "lineno", 0) + 1
        if lines > MOST_LINES:
            report.add("CPX003", function, f"{name} has {lines} lines, more than {MOST_LINES}")


def _branches(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    return int(isinstance(node, _PATHS))


def _is_elif(tree: Tree, node: ast.AST) -> bool:
    parent = tree.parents.get(node)
    return isinstance(node, ast.If) and isinstance(parent, ast.If) and parent.orelse == [node]


def _huge(tree: Tree, node: ast.AST) -> str | None:
    """Return what is too large about a constant expression, or about a text that it would make."""
    match node:
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if _repeats(tree, left, right):
            return "a sequence repeated so often does not fit into the memory"
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod()) if _WIDTH.search(text):
            return "a width so large does not fit into the memory"
        case ast.BinOp(op=ast.Pow() | ast.LShift() | ast.Mult()):
            outer = tree.parents.get(node)
            bits = None if isinstance(outer, ast.BinOp) else tree.folded.log2(node)
            return "a number of so many digits takes forever" if _above(bits, _MOST_BITS) else None
        case ast.FormattedValue(format_spec=ast.JoinedStr(values=[ast.Constant(value=str(spec))])):
            return "a width so large does not fit into the memory" if _WIDTH.match(spec) else None
        case ast.Call(func=function, args=[first, *_]):
            return _huge_call(tree, node, function, first)
        case _:
            return None


def _huge_call(tree: Tree, node: ast.Call, function: ast.expr, first: ast.expr) -> str | None:
    size = tree.folded.log2(first)
    if tree.names(function, "bytes", "bytearray") and _above(size, _MOST_ITEMS):
        return "so many bytes do not fit into the memory"
    if isinstance(function, ast.Attribute) and function.attr in _PADDING:
        return (
            "a width so large does not fit into the memory" if _above(size, _MOST_ITEMS) else None
        )
    if tree.names(function, "math.factorial") and _above(size, 17):
        return "a number of so many digits takes forever"
    if (
        tree.names(function, "pow")
        and len(node.args) == 2
        and _above(tree.folded.log2(node), _MOST_BITS)
    ):
        return "a number of so many digits takes forever"
    makes_all = tree.names(function, "list", "tuple", "set", "sorted")
    match first:
        case ast.Call(func=ast.Name(id="range"), args=[*_, end]) if makes_all:
            if _above(tree.folded.log2(end), _MOST_ITEMS):
                return "a list so long does not fit into the memory"
        case _:
            pass
    return None


def _repeats(tree: Tree, left: ast.expr, right: ast.expr) -> bool:
    for sequence, times in ((left, right), (right, left)):
        length = _length(sequence)
        size = tree.folded.log2(times)
        if length and size is not None:
            return size + math.log2(length) > _MOST_ITEMS
    return False


def _length(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=str() | bytes() as value):
            return len(value)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return len(items)
        case _:
            return 0


def _above(size: float | None, most: float) -> bool:
    return size is not None and size > most
