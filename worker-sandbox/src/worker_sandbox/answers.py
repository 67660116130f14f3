"""The one frame that comes out of a jail, read as what it is: bytes from an enemy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, cast

from worker_sandbox.jail import frames
from worker_sandbox.job import Fault

AnswerReason = Literal["ok", "error", "memory", "output"]
#: A tuple, because what is looked for in it may be anything, also what cannot be hashed.
_REASONS: Final = ("ok", "error", "memory", "output")
#: What honest code may meet, so it is told as its own error: {1: "a", "1": "b"}.
_AMBIGUOUS: Final = Fault(
    type="NotJson",
    message="a key stands twice in one object of the value, once it is a text",
    traceback=None,
)
#: "1e15" is written again as 1000000000000000.0; nothing grows more.
_GROWTH: Final = 5
_LONGEST: Final = {"type": 200, "message": 4096, "traceback": 16 << 10}


class Unreadable(Exception):
    """The bytes are no answer of a jail; the text says what is wrong with them."""


class _Ambiguous(Exception):
    """An object has a key twice, as it comes of keys that are the same as texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the jail says of its job."""

    reason: AnswerReason
    value: Any = None
    error: Fault | None = None


def read(body: bytes) -> Answer:
    """Parse a frame's JSON under caps of size, depth and numbers. Raises Unreadable."""
    if len(body) > frames.MAX_RESULT:
        raise Unreadable("it is longer than any result may be")
    if frames.too_deep(body, frames.MAX_DEPTH + 1):  # the answer, and the value in it
        raise Unreadable(f"it nests more than {frames.MAX_DEPTH} levels deep")
    try:
        told = json.loads(
            body.decode(),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_object,
        )
    except _Ambiguous:
        return Answer(reason="error", error=_AMBIGUOUS)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(f"it is no JSON of ours: {str(exc)[:200]}") from exc
    if not isinstance(told, dict) or told.get("reason") not in _REASONS:
        raise Unreadable("it is no answer")
    _check_texts(body, told)
    reason = cast("AnswerReason", told["reason"])
    if reason == "ok":
        if told.keys() != {"reason", "value"}:
            raise Unreadable("it is no answer")
        _check_size(body, told["value"])
        return Answer(reason=reason, value=told["value"])
    return Answer(reason=reason, error=_fault(told.get("error")))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Ambiguous
    return made


def _check_size(body: bytes, value: Any) -> None:
    """Refuse a value past its cap, also one that is past it only when somebody writes it again."""
    if _GROWTH * len(body) <= frames.MAX_VALUE:
        return
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(written.encode("utf-8", "surrogatepass")) > frames.MAX_VALUE:
        raise Unreadable(f"its value is longer than {frames.MAX_VALUE} bytes of JSON")


def _check_texts(body: bytes, told: Any) -> None:
    """Refuse what PostgreSQL cannot keep; our encoder never sends it."""
    if b"\\u" not in body:
        return
    text = json.dumps(told, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise Unreadable("a text has half of a surrogate pair") from exc
    if any("\0" in found for found in _texts(told)):
        raise Unreadable("a text has a NUL character")


def _texts(value: Any) -> list[str]:
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item
    return found


def _fault(told: Any) -> Fault:
    if not isinstance(told, dict) or told.keys() != _LONGEST.keys():
        raise Unreadable("it tells no error")
    for name, longest in _LONGEST.items():
        text = told[name]
        if not (isinstance(text, str) or (name == "traceback" and text is None)):
            raise Unreadable("it tells no error")
        if text is not None and len(text) > longest:
            raise Unreadable(f"its {name} is too long")
    return Fault(type=told["type"], message=told["message"], traceback=told["traceback"])
