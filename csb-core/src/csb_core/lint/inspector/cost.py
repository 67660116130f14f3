"""COST: how the time of a run grows with its input, and a guess at what it takes."""

from __future__ import annotations

import ast
from typing import Any, Final

from .report import Report
from .tree import COMPREHENSIONS, LOOPS, Tree

#: What the figures are for, and what one node of a loop's body takes on one core.
ITEMS: Final = 1000
_NODE_MS: Final = 0.00005
_START_MS: Final = 1.0
_START_MB: Final = 12.0
_ITEM_MB: Final = 0.001

_CLASSES: Final = ("constant", "linear", "quadratic", "cubic")


def look(tree: Tree, report: Report) -> dict[str, Any]:
    """Return the class and the guess; tell what grows too fast."""
    counter = _Counter(tree)
    depth, steps, where = counter.deepest()
    exponential = counter.doubling()
    if exponential is not None:
        message = "the function calls itself more than once: time doubles with each level"
        report.add("COST003", exponential, message)
        name = "exponential"
    else:
        name = _CLASSES[depth] if depth < len(_CLASSES) else "polynomial"
        if depth > 2 and where is not None:
            report.add("COST003", where, f"loops over the input nest {depth} deep")
        elif depth == 2 and where is not None:
            report.add("COST004", where, "a loop over the input inside of a loop over the input")
    milliseconds = _START_MS + min(steps * _NODE_MS + counter.slept(), 1e12)
    return {
        "class": name,
        "milliseconds": milliseconds,
        "memory_mb": _START_MB + ITEMS * _ITEM_MB * (1 + min(depth, 1)),
    }


class _Counter:
    """Counts how often each node runs, for an input of ITEMS items."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.times: dict[ast.AST, float] = {}
        self.depth: dict[ast.AST, int] = {}
        self.made: dict[ast.AST, set[str]] = {}

    def deepest(self) -> tuple[int, float, ast.AST | None]:
        """Return the most loops over the input around one node, all steps, and where."""
        most, where = 0, None
        tree = self.tree
        for node in tree.nodes:
            parent = tree.parents.get(node)
            times = self.times.get(parent, 1.0) if parent else 1.0
            depth = self.depth.get(parent, 0) if parent else 0
            factor, deeper = self._loop(node)
            self.times[node] = min(times * factor, 1e15)
            self.depth[node] = depth + deeper
            if self.depth[node] > most:
                most, where = self.depth[node], node
        return most, sum(self.times.values()), where

    def slept(self) -> float:
        """Return the milliseconds that calls of time.sleep with a known number take."""
        slept = 0.0
        for node in self.tree.nodes:
            if isinstance(node, ast.Call) and self.tree.names(node.func, "time.sleep"):
                size = self.tree.folded.log2(node.args[0]) if node.args else None
                if size is not None:
                    slept += min(2.0 ** min(size, 60.0), 1e9) * 1000 * self.times[node]
        return slept

    def doubling(self) -> ast.AST | None:
        """Return a function that calls itself twice in one statement, e.g. f(n - 1) + f(n - 2).

        Calls on parts of what it got, as in a walk over a tree, are together one walk.
        """
        seen: set[tuple[ast.AST, ast.AST]] = set()
        for node in self.tree.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                function = self.tree.function_of(node)
                itself = function is not None and getattr(function, "name", "") == node.func.id
                counts = any(isinstance(argument, ast.BinOp) for argument in node.args)
                if function is None or not (itself and counts):
                    continue
                statement = next(a for a in self.tree.above(node) if isinstance(a, ast.stmt))
                if (function, statement) in seen:
                    return function
                seen.add((function, statement))
        return None

    def _loop(self, node: ast.AST) -> tuple[float, int]:
        """Return how often a node runs its inside, and whether that grows with the input."""
        if isinstance(node, ast.While):
            return float(ITEMS), 1
        if isinstance(node, ast.For | ast.AsyncFor):
            return self._walk(node, node.iter)
        if isinstance(node, COMPREHENSIONS):
            factor, deeper = 1.0, 0
            targets = _targets(node)
            for generator in node.generators:
                times, grows = self._walk(node, generator.iter)
                inner = deeper and _mentions(generator.iter, targets)
                factor, deeper = (factor, deeper) if inner else (factor * times, deeper + grows)
            return factor, deeper
        return 1.0, 0

    def _walk(self, loop: ast.AST, source: ast.expr) -> tuple[float, int]:
        fixed = _fixed(self.tree, source)
        if fixed is not None:
            return fixed, 0
        for above in self.tree.above(loop):
            if isinstance(above, (*LOOPS, *COMPREHENSIONS)):
                if above not in self.made:
                    self.made[above] = _made_in(above)
                if _mentions(source, self.made[above]):
                    return 10.0, 0  # parts of an item of the loop around: still one input
        return float(ITEMS), 1


def _fixed(tree: Tree, source: ast.expr) -> float | None:
    """Return how many items an iterable has, None when its input says so."""
    match source:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return float(len(items))
        case ast.Dict(keys=keys):
            return float(len(keys))
        case ast.Constant(value=str() | bytes() as text):
            return float(len(text))
        case ast.Name(id=name) if name.isupper():
            return 20.0  # a table of the module's own
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if name.isupper():
            return 20.0
        case ast.Call(func=ast.Name(id="range"), args=[*_, end]) if not tree.is_local(
            source, "range"
        ):
            size = tree.folded.log2(end)
            return None if size is None else min(2.0 ** min(size, 60), 1e15)
        case ast.Call(func=ast.Name(id="enumerate" | "reversed" | "sorted"), args=[first, *_]):
            return _fixed(tree, first)
        case _:
            return None


def _targets(node: ast.AST) -> set[str]:
    """Return the names that a loop gives its items."""
    match node:
        case ast.For(target=target) | ast.AsyncFor(target=target):
            return _names(target)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return {name for generator in node.generators for name in _names(generator.target)}
        case _:
            return set()


def _made_in(loop: ast.AST) -> set[str]:
    """Return the names of a loop's items, and those made of them inside of it."""
    made = _targets(loop)
    for statement in ast.walk(loop):
        match statement:
            case ast.Assign(targets=targets, value=value) if _mentions(value, made):
                made |= {name for target in targets for name in _names(target)}
            case ast.For(target=target, iter=source) if _mentions(source, made):
                made |= _names(target)
            case _:
                pass
    return made


def _names(node: ast.AST) -> set[str]:
    return {below.id for below in ast.walk(node) if isinstance(below, ast.Name)}


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(below, ast.Name) and below.id in names for below in ast.walk(node))
