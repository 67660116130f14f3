"""Limits itself, reads one question, looks at the tree, writes one answer; runs nothing of it."""

from __future__ import annotations

import ast
import json
import os
import resource
import sys
from typing import Any, Final

from . import (
    calls,
    complexity,
    compliance,
    cost,
    credentials,
    entry,
    imports,
    loops,
    own,
    patterns,
    reflection,
    syntax,
    texts,
)
from .report import Report
from .tree import Tree

_MEGABYTE: Final = 1024 * 1024


def main() -> None:
    """Answer the question on standard input; the arguments are the limits."""
    cpu, megabytes, answer_bytes = map(int, sys.argv[2:5])
    limit(cpu, megabytes * _MEGABYTE)
    question = json.loads(sys.stdin.buffer.read())
    answer = json.dumps(inspect(question)).encode()
    if len(answer) <= answer_bytes:
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    # Without the interpreter's long way out: freeing a deep tree costs as much as reading it.
    os._exit(0 if len(answer) <= answer_bytes else 1)


def limit(cpu: int, memory: int) -> None:
    """Give up what reading a text does not need."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, memory),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def inspect(question: dict[str, Any]) -> dict[str, Any]:
    """Return every finding of every family, and what a run will likely cost."""
    report = Report(question["source"])
    lists = question["lists"]
    credentials.search_text(report)
    parsed = syntax.parse(report)
    if parsed is None:
        return {"found": report.found, "cost": None}
    try:
        return {"found": report.found, "cost": _look(parsed, report, question, lists)}
    except (RecursionError, MemoryError):
        report.add("SYN002", None, "the source nests too deep, or is too large, to be looked at")
        return {"found": report.found, "cost": None}


def _look(
    parsed: ast.Module, report: Report, question: dict[str, Any], lists: dict[str, Any]
) -> dict[str, Any]:
    tree = Tree(parsed)
    kind, declared = question["kind"], question["declared"]
    entry.look(tree, report, kind)
    imports.look(tree, report, lists, kind, declared["dependencies"], question["allowed_packages"])
    calls.look(tree, report, lists, kind)
    reflection.look(tree, report, lists)
    texts.look(tree, report, lists)
    credentials.look(tree, report)
    loops.look(tree, report)
    complexity.look(tree, report)
    patterns.look(tree, report)
    compliance.look(tree, report, declared)
    own.look(tree, report, question["rules"])
    return cost.look(tree, report)
