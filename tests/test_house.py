"""Rules of the house that would otherwise be paragraphs somebody forgets."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest
from tests.house import ROOT, files, named, sources, text, toml

from csb_core import config, metrics

LONGEST_MODULE = 300
LONGEST_FUNCTION = 60

#: Functions that may be longer, with the reason.
LONG_FUNCTIONS = {"create": "wires a process: a list of constructions, one argument a line"}
PACKAGES = ("api-service", "csb-core", "worker-sandbox", "worker-service-aws")


def test_no_module_is_too_long() -> None:
    lengths = {named(path): text(path).count("\n") for path in files(".py")}
    too_long = {
        name: lines
        for name, lines in lengths.items()
        if lines > LONGEST_MODULE and "/tests/" not in f"/{name}"
    }
    assert not too_long, f"split these (at most {LONGEST_MODULE} lines): {too_long}"


def test_no_function_is_too_long() -> None:
    too_long = {}
    for path in sources():
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _lines_of_code(node, text(path))
                if lines > LONGEST_FUNCTION and node.name not in LONG_FUNCTIONS:
                    too_long[f"{named(path)}:{node.lineno} {node.name}"] = lines
    assert not too_long, f"name the steps of these: {too_long}"


def _lines_of_code(node: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> int:
    """Count a function's lines without its docstring and its SQL, which are text."""
    lines = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.end_lineno:
            lines -= set(range(part.lineno + 1, part.end_lineno + 1))
    blank = {n for n, line in enumerate(source.splitlines(), 1) if not line.strip()}
    return len(lines - blank)


def test_no_type_is_ignored_in_what_is_shipped() -> None:
    ignoring = [named(p) for p in sources() if re.search(r"#\s*type:\s*ignore", text(p))]
    assert not ignoring


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"#\s*(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    left = [named(path) for path in [*sources(), *files(".sql")] if marks.search(text(path))]
    assert not left


def test_every_exception_to_a_rule_names_the_rule() -> None:
    bare = [named(p) for p in files(".py") if re.search(r"#\s*noqa(?!: ?[A-Z])", text(p))]
    assert not bare


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "base", "misc", "tools"}
    found = [named(p) for p in sources() if drawers & {p.stem, *p.relative_to(ROOT).parts}]
    assert not found


def test_locks_name_no_address() -> None:
    locks = [path for path in files(".txt") if path.name.startswith(("requirements", "packages"))]
    assert {"requirements-dev.txt", "worker-sandbox/packages.txt"} <= set(map(named, locks))
    for path in locks:
        lines = text(path).splitlines()
        addresses = [line for line in lines if re.search(r"://|file:|index-url|find-links", line)]
        assert not addresses, named(path)
        unhashed = [
            line
            for line, following in pairwise([*lines, ""])
            if "==" in line and "--hash=" not in line + following
        ]
        assert not unhashed, f"{named(path)}: {unhashed}"


def test_no_file_knows_a_machine() -> None:
    own = re.compile(r"(?<![\w.$}])/(?:root|home/\w+|Users/\w+|work)/(?!<)[\w.-]+")
    knowing = {
        named(path): found[:3]
        for path in files()
        if path.suffix not in {".svg", ".png"} and (found := own.findall(text(path)))
    }
    assert not knowing


def test_all_packages_have_one_version() -> None:
    versions = {name: toml(f"{name}/pyproject.toml")["project"]["version"] for name in PACKAGES}
    assert set(versions.values()) == {config.VERSION}, versions


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_holds_the_package_of_its_name(package: str) -> None:
    folder = ROOT / package / "src" / package.replace("-", "_")
    assert (folder / "py.typed").is_file()
    assert (ROOT / package / "tests").is_dir()
    assert (
        f"{package}/tests" in toml("pyproject.toml")["tool"]["pytest"]["ini_options"]["testpaths"]
    )


def test_every_metric_is_counted_somewhere() -> None:
    code = "\n".join(text(path) for path in sources() if path.name != "metrics.py")
    names = [name for name, value in vars(metrics).items() if value in metrics.declared()]
    assert len(names) == len(metrics.declared())
    unused = [name for name in names if not re.search(rf"\b{name}\b", code + _inside_metrics(name))]
    assert not unused, f"declared in csb_core.metrics, but nobody counts them: {unused}"


def _inside_metrics(name: str) -> str:
    """Return how `metrics` itself uses a metric: past the line that declares it."""
    source = text(ROOT / "csb-core/src/csb_core/metrics.py")
    return " ".join(re.findall(rf"\b{name}\.\w+", source))


def test_every_log_line_is_an_event() -> None:
    event = re.compile(r"[a-z_]+\.[a-z_]+")
    calls = {"debug", "info", "warning", "error", "exception", "critical"}
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(text(path))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in calls
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"log", "logger"}
                and node.args
            ):
                said = node.args[0]
                named_elsewhere = isinstance(said, ast.Subscript | ast.Name | ast.Attribute)
                constant = isinstance(said, ast.Constant) and event.fullmatch(str(said.value))
                if not (constant or named_elsewhere):
                    wrong.append(f"{named(path)}:{node.lineno}")
    assert not wrong, f"say noun.verb_past, and the rest in extra={{}}: {wrong}"


def test_the_program_in_the_jail_knows_only_itself_and_the_standard_library() -> None:
    """What it imports stands in the memory from which every jail is forked."""
    folder = ROOT / "worker-sandbox/src/worker_sandbox/jail"
    allowed = {*sys.stdlib_module_names}
    wrong = [
        f"{named(path)}: {name}"
        for path in sorted(folder.glob("*.py"))
        for name in _imported(ast.parse(text(path)))
        if name.split(".")[0] not in allowed and not name.startswith("worker_sandbox.jail")
    ]
    assert folder.is_dir()
    assert not wrong


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{'.' * node.level}{node.module or ''}"
