"""LOP: loops and recursion that nothing ends."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from .report import Report
from .tree import FUNCTIONS, LOOPS, Tree

_CONSUMERS: Final = {"list", "tuple", "set", "frozenset", "sorted", "sum", "max", "min", "dict",
                     "all", "any", "len"}  # fmt: skip
_LOOKING: Final = (ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.Await, ast.NamedExpr)
_SAME_ALWAYS: Final = ("int", "float", "str", "bytes", "bool", "list", "dict", "tuple", "set")
_GROWING: Final = {"append", "add", "insert", "extend", "appendleft", "update"}
_DECIDING: Final = (
    ast.If,
    ast.IfExp,
    ast.Match,
    ast.BoolOp,
    ast.Try,
    ast.While,
    ast.For,
    ast.comprehension,
)


def look(tree: Tree, report: Report) -> None:
    """Look at loops, at what eats an endless iterator, and at functions that call themselves."""
    for node in tree.nodes:
        match node:
            case ast.While():
                _look_at_while(tree, report, node)
            case ast.For():
                _look_at_for(tree, report, node)
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in _CONSUMERS:
                if _is_endless(tree, first):
                    report.add("LOP003", node, f"{name}() of an iterator that never ends")
            case ast.comprehension(iter=source):
                if _is_endless(tree, source) and not isinstance(
                    tree.parents.get(node), ast.GeneratorExp
                ):
                    report.add("LOP003", source, "a comprehension over what never ends")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                _look_at_recursion(tree, report, node)
            case _:
                pass


def _look_at_while(tree: Tree, report: Report, node: ast.While) -> None:
    if _is_constant(node.test):
        if not any(_leaves(tree, node, below) for below in _within(node)):
            report.add("LOP001", node, "a loop with no way out: no break, return or raise in it")
        return
    names = {below.id for below in ast.walk(node.test) if isinstance(below, ast.Name)}
    opaque = any(
        isinstance(below, _LOOKING) and not isinstance(below, ast.Name)
        for below in ast.walk(node.test)
    )
    if opaque or any(_changes(below, names) for below in _within(node)):
        return
    if not any(_leaves(tree, node, below) for below in _within(node)):
        report.add("LOP002", node, "nothing in the loop changes what its condition looks at")


def _look_at_for(tree: Tree, report: Report, node: ast.For) -> None:
    if _is_endless(tree, node.iter):
        if not any(_leaves(tree, node, below) for below in _within(node)):
            report.add("LOP003", node, "a loop over what never ends, with no way out")
        return
    if isinstance(node.iter, ast.Name):
        for below in _within(node):
            match below:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)):
                    if name == node.iter.id and attribute in _GROWING:
                        report.add("LOP005", below, "the loop grows what it walks over")
                case _:
                    pass


def _look_at_recursion(
    tree: Tree, report: Report, node: ast.FunctionDef | ast.AsyncFunctionDef
) -> None:
    inside = list(_within(node))
    calls = [
        below
        for below in inside
        if isinstance(below, ast.Call) and tree.names(below.func, node.name)
    ]
    if calls and not any(isinstance(below, _DECIDING) for below in inside):
        report.add("LOP004", calls[0], "the function calls itself whatever happens")


def _is_constant(test: ast.expr) -> bool:
    """Tell whether a condition is always the same, and not simply false: `1`, `not 0`, `1 == 1`."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    return not any(isinstance(below, _LOOKING) for below in ast.walk(test))


def _is_endless(tree: Tree, node: ast.expr) -> bool:
    """Tell whether an iterator has no last item; what walks several ends with the shortest."""
    if not isinstance(node, ast.Call):
        return False
    if tree.names(node.func, "itertools.count", "itertools.cycle"):
        return True
    if tree.names(node.func, "itertools.repeat"):
        return len(node.args) == 1 and not node.keywords
    walked: list[ast.expr] = []
    if tree.names(node.func, "iter") and len(node.args) == 2:
        return tree.names(node.args[0], *_SAME_ALWAYS)
    if tree.names(node.func, "enumerate", "iter"):
        walked = node.args[:1]
    elif tree.names(node.func, "zip"):
        walked = node.args
    elif tree.names(node.func, "map", "filter"):
        walked = node.args[1:]
    return bool(walked) and all(_is_endless(tree, argument) for argument in walked)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """Give what runs inside of a loop or function: not what functions in it would do."""
    waiting = list(getattr(node, "body", ()))
    while waiting:
        below = waiting.pop()
        yield below
        if not isinstance(below, (*FUNCTIONS, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(below))


def _leaves(tree: Tree, loop: ast.AST, node: ast.AST) -> bool:
    """Tell whether a statement ends this loop, or hands over to whoever takes its values."""
    if isinstance(node, ast.Return | ast.Raise | ast.Yield | ast.YieldFrom):
        return True
    if isinstance(node, ast.Break):
        return next(above for above in tree.above(node) if isinstance(above, LOOPS)) is loop
    return False


def _changes(node: ast.AST, names: set[str]) -> bool:
    """Tell whether a node may change what a condition of these names says."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return name in names
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
            return name in names
        case ast.Call(args=arguments):
            return any(isinstance(a, ast.Name) and a.id in names for a in arguments)
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
            return name in names
        case _:
            return False
