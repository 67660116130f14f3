"""What a constant expression comes to: short texts exactly, numbers as the logarithm of their size.

Nothing is evaluated that could grow: `9**9**9` is a size here and never a number.
"""

from __future__ import annotations

import ast
import base64
import binascii
import codecs
from collections.abc import Mapping
from typing import Final

_LONGEST: Final = 4096
_DEEPEST: Final = 60
_HUGE: Final = 1e15

#: Methods of texts that a constant may be passed through; none makes it longer than its parts.
_METHODS: Final = {"lower", "upper", "strip", "lstrip", "rstrip", "swapcase", "title", "capitalize",
                   "casefold", "removeprefix", "removesuffix", "replace"}  # fmt: skip

Text = str | bytes


def text(node: ast.AST, constants: Mapping[str, str], depth: int = 0) -> Text | None:
    """Return the text that an expression always gives, None when it cannot be told."""
    if depth > _DEEPEST:
        return None

    def part(below: ast.AST) -> Text | None:
        return text(below, constants, depth + 1)

    match node:
        case ast.Constant(value=str() | bytes() as value):
            return value if len(value) <= _LONGEST else None
        case ast.Name(id=name):
            return constants.get(name)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([part(left), part(right)])
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))):
            return _repeated(part(left), times)
        case ast.BinOp(left=ast.Constant(value=int(times)), op=ast.Mult(), right=right):
            return _repeated(part(right), times)
        case ast.JoinedStr(values=values):
            return _joined([part(value) for value in values])
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return part(value)
        case ast.Subscript(value=value, slice=ast.Slice(lower=None, upper=None, step=step)):
            whole = part(value)
            backwards = step is not None and ast.unparse(step) == "-1"
            return whole[::-1] if whole is not None and backwards else None
        case ast.Call(keywords=[]):
            return _called(node, constants, depth)
        case _:
            return None


def _called(node: ast.Call, constants: Mapping[str, str], depth: int) -> Text | None:
    arguments = [text(argument, constants, depth + 1) for argument in node.args[:3]]
    match node.func, node.args:
        case ast.Name(id="chr"), [ast.Constant(value=int(code))] if 0 <= code <= 0x10FFFF:
            return chr(code)
        case ast.Name(id="str"), [_]:
            return arguments[0] if isinstance(arguments[0], str) else None
        case ast.Name(id="bytes"), [ast.List() | ast.Tuple() as numbers]:
            return _bytes(numbers)
        case ast.Attribute(value=glue, attr="join"), [parts]:
            return _join(text(glue, constants, depth + 1), parts, constants, depth)
        case ast.Attribute(attr="fromhex" | "unhexlify" | "a2b_hex" | "b64decode" as name), [_]:
            return _decoded(name, arguments[0])
        case ast.Attribute(value=owner, attr=str(name)), _:
            whole = text(owner, constants, depth + 1)
            if name == "decode" and whole is None:
                return _by_codec(arguments)
            return _method(whole, name, arguments)
        case _:
            return None


def _join(
    glue: Text | None, parts: ast.AST, constants: Mapping[str, str], depth: int
) -> Text | None:
    match parts:
        case ast.List(elts=items) | ast.Tuple(elts=items):
            found = [text(item, constants, depth + 1) for item in items]
        case ast.Call(func=ast.Name(id="map"), args=[ast.Name(id="chr"), numbers]):
            codes = _bytes(numbers)
            found = [codes.decode("latin-1")] if codes is not None else [None]
            glue = ""
        case ast.Call(func=ast.Name(id="reversed"), args=[whole]):
            backwards = text(whole, constants, depth + 1)
            found = [backwards[::-1] if backwards is not None else None]
        case _:
            return None
    if glue is None or None in found:
        return None
    return _joined([item for one in found for item in (glue, one)][1:])


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
    return changed if len(changed) <= _LONGEST else None


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


def log2(node: ast.AST, depth: int = 0) -> float | None:
    """Return the logarithm of the number that an expression always gives, None: cannot be told."""
    if depth > _DEEPEST:
        return None
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int(value)):
            return (
                float(max(value.bit_length() - 1, 0))
                if value < 0 or value > 1 << 60
                else (_log2(value))
            )
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return log2(operand, depth + 1)
        case ast.BinOp(left=left, op=op, right=right):
            one, other = log2(left, depth + 1), log2(right, depth + 1)
            return None if one is None or other is None else _combined(op, one, other)
        case ast.Call(func=ast.Name(id="pow"), args=[left, right]):
            one, other = log2(left, depth + 1), log2(right, depth + 1)
            return None if one is None or other is None else _combined(ast.Pow(), one, other)
        case _:
            return None


def _log2(value: int) -> float:
    whole = max(value.bit_length() - 1, 0)
    return whole + (value / (1 << whole) - 1 if value else 0)


def _combined(op: ast.operator, one: float, other: float) -> float | None:
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
