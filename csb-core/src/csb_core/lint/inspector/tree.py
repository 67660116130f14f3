"""A parsed source and what is known of its names; walks without recursion, however deep it is.

Identifiers are the parser's, which are NFKC-normalised: the text is never asked what a name is.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from .folding import Folded

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Loop = ast.For | ast.AsyncFor | ast.While

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
LOOPS: Final = (ast.For, ast.AsyncFor, ast.While)
_SCOPES: Final = (*FUNCTIONS, *COMPREHENSIONS, ast.ClassDef)
_SHARED: Final = (ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop)


class Tree:
    """Every node once, in the order of the source, with its parent and the meaning of names."""

    def __init__(self, root: ast.Module) -> None:
        self.root = root
        self.nodes: list[ast.AST] = []
        self.parents: dict[ast.AST, ast.AST] = {}
        self.imported: dict[str, list[str]] = {}
        self.modules: set[str] = set()
        self._scope_of: dict[ast.AST, ast.AST | None] = {}
        self._times: Counter[str] = Counter()
        self._bound: dict[ast.AST, set[str]] = defaultdict(set)
        self._not_local: dict[ast.AST, set[str]] = defaultdict(set)
        self._walk()
        for node in self.nodes:
            self._note(node)
        constants = self._values_of_constants()
        alone = Folded(self.nodes, {})
        self.folded = Folded(self.nodes, {name: alone.value(v) for name, v in constants.items()})

    def _walk(self) -> None:
        waiting: list[ast.AST] = [self.root]
        while waiting:
            node = waiting.pop()
            self.nodes.append(node)
            below = []
            around, outside = self._scope_of.get(node), self._evaluated_outside(node)
            for child in ast.iter_child_nodes(node):
                # Contexts and operators are shared by all nodes, so they have no parent.
                if not isinstance(child, _SHARED):
                    self.parents[child] = node
                    makes = isinstance(node, _SCOPES) and child not in outside
                    self._scope_of[child] = node if makes else around
                    if isinstance(node, ast.comprehension) and child in outside:
                        self._scope_of[child] = self._scope_of.get(self.parents[node])
                    below.append(child)
            waiting.extend(reversed(below))

    def _evaluated_outside(self, node: ast.AST) -> set[ast.AST | None]:
        """Return the children of a node that are evaluated outside of the scope that it makes.

        Defaults, decorators and annotations belong outside their function, and the first iterable
        of a comprehension outside the comprehension: `def f(eval=eval)` means the builtin.
        """
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return {node.args, node.returns, *node.decorator_list}
            case ast.ClassDef():
                return {*node.bases, *node.keywords, *node.decorator_list}
            case ast.Lambda():
                return {node.args}
            case ast.comprehension(iter=source):
                whole = self.parents[node]
                first = isinstance(whole, COMPREHENSIONS) and whole.generators[0] is node
                return {source} if first else set()
            case _:
                return set()

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Give the parents of a node, the nearest first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def scopes(self, node: ast.AST) -> Iterator[ast.AST]:
        """Give the functions, comprehensions and classes that a node is evaluated in."""
        scope = self._scope_of.get(node)
        while scope is not None:
            yield scope
            scope = self._scope_of.get(scope)

    def function_of(self, node: ast.AST) -> ast.AST | None:
        """Return the function that a node is evaluated in."""
        return next((scope for scope in self.scopes(node) if isinstance(scope, FUNCTIONS)), None)

    def is_local(self, node: ast.AST, name: str) -> bool:
        """Tell whether a function around `node` binds the name, so that no builtin is meant.

        What a module or a class binds does not count: there a name can be unbound again.
        """
        for scope in self.scopes(node):
            if name in self._not_local[scope]:
                return False
            if name in self._bound[scope] and not isinstance(scope, ast.ClassDef):
                return True
        return False

    def meanings(self, node: ast.AST) -> list[str]:
        """Return what an expression may name, as dotted paths; a builtin is just its name."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self.is_local(node, node.id):
            return []
        rest = "".join(f".{attribute}" for attribute in reversed(attributes))
        return [f"{start}{rest}" for start in self.imported.get(node.id, [node.id])]

    def imported_meanings(self, node: ast.AST) -> list[str]:
        """Return the same for what an import has bound, nothing for any other name."""
        base = node
        while isinstance(base, ast.Attribute):
            base = base.value
        known = isinstance(base, ast.Name) and base.id in self.imported
        return self.meanings(node) if known else []

    def names(self, node: ast.AST, *paths: str) -> bool:
        """Tell whether an expression may name one of `paths`."""
        return any(meaning in paths for meaning in self.meanings(node))

    def _scope(self, node: ast.AST, *, past_comprehensions: bool = False) -> ast.AST:
        if isinstance(node, ast.arg):
            return self.parents[self.parents[node]]
        for scope in self.scopes(node):
            if not (past_comprehensions and isinstance(scope, COMPREHENSIONS)):
                return scope
        return self.root

    def _note(self, node: ast.AST) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self._note_import(node)
            case ast.arg(arg=name):
                self._bind(self._scope(node), name)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                walrus = isinstance(self.parents.get(node), ast.NamedExpr)
                self._bind(self._scope(node, past_comprehensions=walrus), name)
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                self._bind(self._scope(node), name)
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
                | ast.MatchMapping(rest=str(name))
            ):
                self._bind(self._scope(node), name)
            case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()):
                self._times[name] += 1
            case ast.Global(names=names):
                self._not_local[self._scope(node)].update(names)
            case _:
                pass

    def _note_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                name = alias.asname or alias.name.partition(".")[0]
                path = alias.name if alias.asname else name
                self.modules.add(name)
            else:
                name = alias.asname or alias.name
                path = f"{'.' * node.level}{node.module or ''}.{alias.name}"
            self._times[name] += 1
            self.imported.setdefault(name, []).append(path)

    def _bind(self, scope: ast.AST, name: str) -> None:
        self._bound[scope].add(name)
        self._times[name] += 1

    def _values_of_constants(self) -> dict[str, ast.expr]:
        """Return what the names stand for that are bound once in the whole source."""
        return {
            node.targets[0].id: node.value
            for node in self.nodes
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and self._times[node.targets[0].id] == 1
        }
