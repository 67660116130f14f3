"""What constant expressions come to: short texts exactly, numbers as the logarithm of their size.

Nothing is evaluated that could grow: `9**9**9` is a size here and never a number. Parts come before
wholes, so that each expression is looked at once, however deep the source nests.
"""

from __future__ import annotations

import ast
import base64
import binascii
import codecs
import math
from collections.abc import Mapping, Sequence
from typing import Final

#: Texts are followed up to this length each, and to this length together.
_LONGEST: Final = 1024
_MOST: Final = 4_000_000
_HUGE: Final = 1e15

#: Methods of texts that a constant may be passed through.
_METHODS: Final = {"lower", "upper", "strip", "lstrip", "rstrip", "swapcase", "title", "capitalize",
                   "casefold", "removeprefix", "removesuffix", "replace"}  # fmt: skip

Text = str | bytes
Value = tuple[Text | None, float | None]
_UNKNOWN: Final[Value] = (None, None)


class Folded:
    """The constant expressions of a tree."""

    def __init__(self, nodes: Sequence[ast.AST], constants: Mapping[str, Value]) -> None:
        """Fold `nodes`, whose parents come first; `constants` is what names are known to hold."""
        self._constants = constants
        self._texts: dict[ast.AST, Text] = {}
        self._sizes: dict[ast.AST, float] = {}
        left = _MOST
        for node in reversed(nodes):
            found = self._text(node) if left > 0 else None
            if found is not None and len(found) <= _LONGEST:
                self._texts[node] = found
                left -= len(found)
            size = self._size(node)
            if size is not None:
                self._sizes[node] = size

    def text(self, node: ast.AST) -> Text | None:
        """Return the text that an expression always gives, None when it cannot be told."""
        return self._texts.get(node)

    def log2(self, node: ast.AST) -> float | None:
        """Return the logarithm of the number that it always gives, None when it cannot be told."""
        return self._sizes.get(node)

    def value(self, node: ast.AST) -> Value:
        """Return both, for whoever folds again with this expression under a name."""
        return self.text(node), self.log2(node)

    def _text(self, node: ast.AST) -> Text | None:
        match node:
            case ast.Constant(value=str() | bytes() as value):
                return value
            case ast.Name(id=name, ctx=ast.Load()):
                return self._constants.get(name, _UNKNOWN)[0]
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                return self._constants.get(name, _UNKNOWN)[0]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _joined([self.text(left), self.text(right)])
            case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))):
                return _repeated(self.text(left), times)
            case ast.BinOp(left=ast.Constant(value=int(times)), op=ast.Mult(), right=right):
                return _repeated(self.text(right), times)
            case ast.JoinedStr(values=values):
                return _joined([self.text(value) for value in values])
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self.text(value)
            case ast.Subscript(value=value, slice=ast.Slice(lower=None, upper=None, step=step)):
                return _backwards(self.text(value), step)
            case ast.Call(keywords=[]):
                return self._called(node)
            case _:
                return None

    def _called(self, node: ast.Call) -> Text | None:
        arguments = [self.text(argument) for argument in node.args[:3]]
        match node.func, node.args:
            case ast.Name(id="chr"), [ast.Constant(value=int(code))] if 0 <= code <= 0x10FFFF:
                return chr(code)
            case ast.Name(id="str"), [_]:
                return arguments[0] if isinstance(arguments[0], str) else None
            case ast.Name(id="bytes"), [ast.List() | ast.Tuple() as numbers]:
                return _bytes(numbers)
            case ast.Attribute(value=glue, attr="join"), [parts]:
                return self._join(self.text(glue), parts)
            case ast.Attribute(attr="fromhex" | "unhexlify" | "a2b_hex" | "b64decode" as name), [_]:
                return _decoded(name, arguments[0])
            case ast.Attribute(value=owner, attr=str(name)), _:
                whole = self.text(owner)
                if name == "decode" and whole is None:
                    return _by_codec(arguments)
                return _method(whole, name, arguments)
            case _:
                return None

    def _join(self, glue: Text | None, parts: ast.AST) -> Text | None:
        match parts:
            case ast.List(elts=items) | ast.Tuple(elts=items):
                found = [self.text(item) for item in items]
            case ast.Call(func=ast.Name(id="map"), args=[ast.Name(id="chr"), numbers]):
                codes = _bytes(numbers)
                found = [codes.decode("latin-1") if codes is not None else None]
            case ast.Call(func=ast.Name(id="reversed"), args=[whole]):
                backwards = self.text(whole)
                found = [backwards[::-1] if backwards is not None else None]
            case _:
                return None
        if glue is None or None in found:
            return None
        return _joined([item for one in found for item in (glue, one)][1:])

    def _size(self, node: ast.AST) -> float | None:
        match node:
            case ast.Constant(value=bool()):
                return None
            case ast.Name(id=name, ctx=ast.Load()):
                return self._constants.get(name, _UNKNOWN)[1]
            case ast.Constant(value=int(value)):
                return _log2(value)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                return self.log2(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return _combined(op, self.log2(left), self.log2(right))
            case ast.Call(func=ast.Name(id="pow"), args=[left, right]):
                return _combined(ast.Pow(), self.log2(left), self.log2(right))
            case _:
                return None


def _backwards(whole: Text | None, step: ast.expr | None) -> Text | None:
    match step:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)):
            return whole[::-1] if whole is not None else None
        case _:
            return None


def _bytes(node: ast.AST) -> bytes | None:
    if not isinstance(node, ast.List | ast.Tuple):
        return None
    numbers = [item.value for item in node.elts if isinstance(item, ast.Constant)]
    small = [n for n in numbers if isinstance(n, int) and 0 <= n <= 255]
    return bytes(small) if len(small) == len(node.elts) <= _LONGEST else None


def _method(whole: Text | None, name: str, arguments: list[Text | None]) -> Text | None:
    if isinstance(whole, bytes) and name == "decode":
        return whole.decode("utf-8", "replace")
    if isinstance(whole, str) and name == "encode":
        return whole.encode("utf-8", "replace")
    if not isinstance(whole, str) or name not in _METHODS:
        return None
    if not all(isinstance(argument, str) and len(argument) <= 64 for argument in arguments):
        return None
    try:
        changed: str = getattr(whole, name)(*arguments)
    except TypeError:
        return None
    return changed


def _decoded(name: str, data: Text | None) -> Text | None:
    if data is None:
        return None
    try:
        return base64.b64decode(data) if name == "b64decode" else binascii.unhexlify(data)
    except (ValueError, TypeError):
        return None


def _by_codec(arguments: list[Text | None]) -> Text | None:
    match arguments:
        case [str(data), "rot13" | "rot_13" | "rot-13"]:
            return codecs.decode(data, "rot13")
        case [bytes(data), *_]:
            return data.decode("utf-8", "replace")
        case _:
            return None


def _joined(parts: list[Text | None]) -> Text | None:
    if all(isinstance(part, str) for part in parts):
        whole: Text = "".join(part for part in parts if isinstance(part, str))
    elif all(isinstance(part, bytes) for part in parts):
        whole = b"".join(part for part in parts if isinstance(part, bytes))
    else:
        return None
    return whole if len(whole) <= _LONGEST else None


def _repeated(whole: Text | None, times: int) -> Text | None:
    if whole is None or len(whole) * max(times, 0) > _LONGEST:
        return None
    return whole * times


def _log2(value: int) -> float:
    whole = float(max(value.bit_length() - 1, 0))
    return math.log2(value) if 0 < value < 1 << 60 else whole


def _combined(op: ast.operator, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    exponent = 2.0**other if other < 50 else _HUGE
    match op:
        case ast.Pow():
            return min(one * exponent, _HUGE)
        case ast.Mult():
            return min(one + other, _HUGE)
        case ast.LShift():
            return min(one + exponent, _HUGE)
        case ast.Add():
            return min(max(one, other) + (1 if abs(one - other) < 1 else 0), _HUGE)
        case ast.Sub():
            return max(one, other)
        case _:
            return None
