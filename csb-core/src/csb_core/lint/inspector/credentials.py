"""SEC: secrets that stand in the source, comments included; a finding never repeats one."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from typing import Final

from .report import Report
from .tree import Tree

_SERVICES: Final = (
    r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|xox[abprs]-[A-Za-z0-9-]{20,}|[rs]k_live_[A-Za-z0-9]{20,}|AIza[A-Za-z0-9_-]{35}"
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,})"
)
_JWT: Final = r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
_PEM: Final = r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:\s|\\n|[\"'+,])+[A-Za-z0-9+/=]{24}"
_WEBHOOK: Final = r"https://hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{16,}"
_ADDRESS: Final = r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'{}]{0,64}:[^\s/:@\"'{}%]{3,64}@"

#: Shapes that are secrets wherever they stand; what is an example by its own words is none.
_SHAPES: Final = (
    ("SEC001", "an AWS access key id", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    ("SEC002", "a private key", _PEM),
    ("SEC003", "a bearer token", r"(?i:\bbearer)\s+[A-Za-z0-9._~+/-]{20,}=*"),
    ("SEC003", "a signed token", _JWT),
    ("SEC004", "a token of this platform", r"\bcsb_[a-z0-9]{12}_[A-Za-z0-9]{16,}"),
    ("SEC005", "a service's token", _SERVICES),
    ("SEC005", "a webhook's address", _WEBHOOK),
    ("SEC006", "a password in an address", _ADDRESS),
)
_COMPILED: Final = tuple((rule, what, re.compile(shape)) for rule, what, shape in _SHAPES)
_EXAMPLE: Final = re.compile(r"EXAMPLE|example|xxxx|XXXX|\*\*\*|placeholder|changeme")

_SECRET_NAME: Final = re.compile(
    r"passw(or)?d|passphrase|secret|(^|_)token$|(session|auth|access|refresh|id)_?token"
    r"|api_?key|private_?key|credential",
    re.IGNORECASE,
)
#: Names that say what a secret is called or looks like.
_ABOUT: Final = re.compile(
    r"_?(re|regex|pattern|rx|field|name|header|url|path|file|label|type|prefix|format|hash|id)s?$",
    re.IGNORECASE,
)
_RANDOM_RUN: Final = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_RANDOM_BITS: Final = 4.5
_SECRET_BITS: Final = 2.5
_SHORTEST: Final = 8


def search_text(report: Report) -> None:
    """Search the text as it stands, comments too."""
    for rule, what, shape in _COMPILED:
        for match in shape.finditer(report.source):
            if not _EXAMPLE.search(match[0]):
                report.add(rule, report.at(match.start()), f"{what} stands in the source")


def look(tree: Tree, report: Report) -> None:
    """Look at texts under a telling name, and at texts that look like keys."""
    for node in tree.nodes:
        for name, value in _named(node):
            if _SECRET_NAME.search(name) and not _ABOUT.search(name) and _is_secret(value):
                report.add("SEC007", value, "a secret under the name of one")
        _look_at_assembled(tree, report, node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for run in _RANDOM_RUN.findall(node.value):
                if _bits(run) >= _RANDOM_BITS and not _EXAMPLE.search(run):
                    report.add("SEC008", node, "a text as random as an AWS secret key")


def _look_at_assembled(tree: Tree, report: Report, node: ast.AST) -> None:
    """Look for what stands in no line as a whole, but is put together of constants."""
    text = tree.folded.text(node)
    inside = tree.parents.get(node)
    if (
        isinstance(node, ast.Name)
        or not isinstance(text, str)
        or (inside and tree.folded.text(inside) is not None)
    ):
        return
    for rule, what, shape in _COMPILED:
        match = shape.search(text)
        if match and match[0] not in report.source and not _EXAMPLE.search(match[0]):
            report.add(rule, node, f"{what} is put together in the source")


def _named(node: ast.AST) -> list[tuple[str, ast.expr]]:
    """Return the values that a node gives a name, with the name."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return [(_name(target), value) for target in targets]
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            return [(_name(target), value)]
        case ast.NamedExpr(target=target, value=value):
            return [(_name(target), value)]
        case ast.keyword(arg=str(name), value=value):
            return [(name, value)]
        case ast.Dict(keys=keys, values=values):
            return [(_text(key), value) for key, value in zip(keys, values, strict=True)]
        case ast.arguments(args=args, defaults=defaults) if defaults:
            return [(a.arg, d) for a, d in zip(args[-len(defaults) :], defaults, strict=False)]
        case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
            return [(_name(left), right), (_name(right), left)]
        case _:
            return []


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=key):
            return _text(key)
        case _:
            return ""


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_secret(node: ast.expr) -> bool:
    """Tell whether a value is a literal that could be the secret itself, not a word about it."""
    text = _text(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
        text = node.value.decode("latin-1")
    if len(text) < _SHORTEST or " " in text or _EXAMPLE.search(text):
        return False
    mixed = re.search(r"[0-9]", text) and re.search(r"[A-Za-z]", text)
    return bool(mixed) and _bits(text) >= _SECRET_BITS and not re.fullmatch(r"[\w.-]*[{<%].*", text)


def _bits(text: str) -> float:
    """Return the entropy of a text, in bits for each of its characters."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)
