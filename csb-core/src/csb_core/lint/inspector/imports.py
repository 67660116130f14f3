"""IMP: which modules a util may import, and what of them it may touch."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

from .report import Report, shown
from .tree import Tree

_VERSION: Final = re.compile(r"[\s;\[<>=!~].*", re.DOTALL)


def look(
    tree: Tree,
    report: Report,
    lists: Mapping[str, Any],
    kind: str,
    dependencies: Sequence[str],
    allowed_packages: Mapping[str, Sequence[str]] | None,
) -> None:
    """Judge every import, every use of a restricted module, and what is declared."""
    packages = {_normal(name): modules for name, modules in (allowed_packages or {}).items()}
    lacking = "the sandbox does not hold"
    if allowed_packages is None:
        lacking = "no worker tells at present whether the sandbox holds"
    declared = {_normal(name): name for name in dependencies}
    judge = _Judge(report, lists, kind, packages, set(declared), lacking)
    for node in tree.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                judge.module(node, alias.name)
        elif isinstance(node, ast.ImportFrom):
            judge.members(node)
    # Afterwards: what is used above its import is used all the same.
    for node in tree.nodes:
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            judge.use(tree, node)
    for normal, name in declared.items():
        if normal not in packages:
            report.add("IMP004", None, f"{lacking} {shown(name)}")
        elif not judge.imported & set(packages[normal]):
            report.add("IMP010", None, f"{shown(name)} is declared and never imported")


class _Judge:
    """Holds imports against the lists."""

    def __init__(
        self,
        report: Report,
        lists: Mapping[str, Any],
        kind: str,
        packages: Mapping[str, Sequence[str]],
        declared: set[str],
        lacking: str,
    ) -> None:
        self.report = report
        self.refused: Mapping[str, str] = lists["refused_modules"]
        self.allowed = {*lists["modules"]["both"], *lists["modules"][kind]}
        self.modules = {*self.allowed, *lists["submodules"]}
        self.members_of: Mapping[str, Sequence[str]] = lists["members"]
        self.exports: Sequence[str] = lists["honest_exports"]
        self.ways_out: Sequence[str] = lists["ways_out"]
        # Several packages may share a module, as parts of one namespace.
        self.brings: dict[str, set[str]] = defaultdict(set)
        for name, modules in packages.items():
            for module in modules:
                self.brings[module].add(name)
        self.declared = declared
        self.lacking = lacking
        self.imported: set[str] = set()

    def module(self, node: ast.AST, path: str) -> None:
        """Judge the import of a module."""
        top = path.partition(".")[0]
        self.imported.add(top)
        whole = modules_of(path)
        reason = next((self.refused[part] for part in whole if part in self.refused), None)
        if reason:
            self.report.add("IMP001", node, f"{shown(path)} is refused: {reason}")
        elif path in self.allowed:
            return
        elif top in self.allowed:
            self.steps(node, whole)
        elif top in sys.stdlib_module_names:
            self.report.add("IMP002", node, f"{shown(path)} is not among the modules for utils")
        elif top not in self.brings:
            self.report.add("IMP004", node, f"{self.lacking} {shown(top)}")
        elif self.is_undeclared(top):
            self.undeclared(node, top)
        else:
            self.steps(node, whole)

    def steps(self, node: ast.AST, whole: Sequence[str]) -> None:
        """Judge each step of a path, in `import a.b.c`, as the part of a module that it is."""
        for above, path in pairwise(whole):
            if whole[0] in self.allowed:
                self.modules.add(path)
            self.member(node, above, path.rpartition(".")[2])

    def is_undeclared(self, module: str) -> bool:
        """Tell whether a module is of a package, and of none that is declared."""
        return module in self.brings and not self.brings[module] & self.declared

    def undeclared(self, node: ast.AST, module: str) -> None:
        """Report what should be declared."""
        packages = " or ".join(sorted(self.brings[module]))
        self.report.add("IMP003", node, f"{shown(module)} is of {packages}, which is not declared")

    def members(self, node: ast.ImportFrom) -> None:
        """Judge `from ... import ...`."""
        if node.level:
            self.report.add("IMP005", node, "a util is one file: there is nothing to import from")
            return
        path = node.module or ""
        if not all(f"{path}.{alias.name}" in self.allowed for alias in node.names):
            self.module(node, path)
        for alias in node.names:
            if alias.name == "*":
                self.report.add("IMP006", node, f"nobody sees which names {shown(path)} brings")
            else:
                self.member(alias, path, alias.name)

    def use(self, tree: Tree, node: ast.Attribute | ast.Name) -> None:
        """Judge `module.name`, and a module that is handed about as a value."""
        if isinstance(node, ast.Attribute):
            for path in tree.imported_meanings(node.value):
                self.member(node, path, node.attr)
            whole = [path for path in tree.imported_meanings(node) if path in self.modules]
            if whole and not isinstance(tree.parents.get(node), ast.Attribute):
                self.report.add("IMP008", node, f"the module {shown(whole[0])} is used as a value")
        elif (
            node.id in tree.modules
            and not isinstance(tree.parents.get(node), ast.Attribute)
            and not tree.is_local(node, node.id)
        ):
            self.report.add("IMP008", node, f"the module {shown(node.id)} is used as a value")

    def member(self, node: ast.AST, path: str, name: str) -> None:
        """Judge one name of a module."""
        if reason := self.refused.get(f"{path}.{name}"):
            self.report.add("IMP001", node, f"{path}.{shown(name)} is refused: {reason}")
        elif path in self.members_of and name not in self.members_of[path]:
            self.report.add("IMP009", node, f"{path}.{shown(name)} is not among what utils may use")
        elif path in self.members_of:
            return
        elif self._is_detail(path, name):
            message = f"{path}.{shown(name)} is a detail of {path}, and may be a way out of it"
            self.report.add("IMP007", node, message)
        elif path.partition(".")[0] in self.brings and self.is_undeclared(name):
            self.undeclared(node, name)

    def _is_detail(self, path: str, name: str) -> bool:
        if name in self.ways_out:
            return True
        # Of packages nobody here knows what is a module: numpy.random is no way out.
        private = name.startswith("_") and not name.startswith("__")
        module = name in sys.stdlib_module_names and f"{path}.{name}" not in self.modules
        return path in self.modules and (
            private or (module and f"{path}.{name}" not in self.exports)
        )


def modules_of(path: str) -> list[str]:
    """Return all that `import a.b.c` imports: a, a.b and a.b.c."""
    return list(accumulate(path.split("."), "{}.{}".format))


def _normal(name: str) -> str:
    """Return a package's name as indices compare it."""
    return re.sub(r"[-_.]+", "-", _VERSION.sub("", name)).lower()
