"""The program in the jail: read one job, run it, write one frame, end.

Nothing here is trusted by anybody once the user's code has begun: the code may replace whatever it
likes of this process. What we call afterwards is taken hold of beforehand, so that an honest
mistake still gets a clear answer; a dishonest one gets no more than its own result.
"""

from __future__ import annotations

import builtins
import gc
import io
import json
import json.encoder
import linecache
import mmap
import os
import random
import re
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from worker_sandbox.jail import frames, limits

FILE: Final = "<util>"
MODULE: Final = "__util__"
ENTRY_POINTS: Final = {"transformer": "transform", "script": "main"}

_LONGEST_TEXT: Final = 16 << 10
#: Where an integer may have more than 64 bits; readers of JSON disagree on those.
_LONG_NUMBER: Final = re.compile("[0-9]{19}")
#: Address space to tell an error in, when the code has used up its own.
_RESERVE: Final = 1 << 20
#: Times after which CPython 3.11 to 3.13 has rewritten what it will rewrite.
_RUN_IN: Final = 100
#: What the code may have replaced when we have to speak of its error.
_BUILTINS: Final = dict(builtins.__dict__)
_NO_ANSWER: Final = (
    b'{"reason":"error","error":{"type":"Unanswerable","message":"%s","traceback":null}}'
)
_OUT_OF_MEMORY: Final = (
    b'{"reason":"memory","error":{"type":"MemoryError","message":"the memory limit was reached",'
    b'"traceback":null}}'
)


class NotJson(Exception):
    """The value cannot be given back."""

    __module__ = "builtins"  # a traceback names it without telling where our program lies


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the jail is, as its program has to know."""

    job: int
    result: int
    #: Size of the address space before anything of the user is in it.
    base_bytes: int
    #: A path, or a descriptor that was lent.
    scratch: str | int | None
    limited: bool
    encode: Callable[[Any], bytes]


def furnish() -> Callable[[Any], bytes]:
    """What the zygote does for every jail: streams, an encoder, and an interpreter run in.

    CPython rewrites code as it warms to it. What it has rewritten before the fork is a page that no
    jail has to copy.
    """
    _capture()
    encode = _encoder()
    for _ in range(_RUN_IN):
        _warm_up(encode)
    return encode


def live(room: Room) -> NoReturn:
    """Say that the jail stands, wait for its job, do it, and end the process."""
    read, write, end, view, pack = os.read, os.write, os._exit, memoryview, frames.HEADER.pack
    length = len
    random.seed()
    _warm_up(room.encode)
    write(room.result, frames.READY)
    body = frames.read(room.job, frames.MAX_JOB)
    if body is None:
        end(0)
    job = json.loads(body)
    del body
    answer = job.pop("seal").encode() + _work(job, room)
    data = view(pack(length(answer)) + answer)
    while data:
        data = data[write(room.result, data) :]
    # The supervisor measures us, and then it ends us; or it went, and this is the end of the pipe.
    read(room.job, 1)
    end(0)


def _warm_up(encode: Callable[[Any], bytes]) -> None:
    """Touch, before there is a job, the memory that every job touches."""
    job = json.loads('{"kind":"transformer","code":"def transform(data):\\n return data"}')
    encode(_call(job["kind"], job["code"], {"warm": [1, 2.5, None, "up"]}))
    linecache.clearcache()


def _work(job: dict[str, Any], room: Room) -> bytes:
    """The frame's JSON, whatever the code did."""
    script = job["kind"] == "script"
    if script and room.scratch is not None:
        os.chdir(room.scratch)
    if isinstance(room.scratch, int):
        os.close(room.scratch)
    reserve = mmap.mmap(-1, _RESERVE)
    gc.enable()
    if room.limited:
        limits.lower_for_job(
            address_space=room.base_bytes + job["memory_bytes"],
            cpu_seconds=job["cpu_seconds"],
            file_bytes=job["file_bytes"] if script else 0,
        )
    try:
        value = _call(job["kind"], job["code"], job["input"])
        return b'{"reason":"ok","value":%b}' % room.encode(value)
    except MemoryError as exc:
        reserve.close()
        return _without_memory(exc)
    except BaseException as exc:  # noqa: BLE001 - whatever the user's code raises is its result
        builtins.__dict__.update(_BUILTINS)
        return _describe(exc)


class _Pipe(io.FileIO):
    """An output of a jail, made in the zygote, where the number may be that of another file."""

    def seekable(self) -> bool:
        """No: there it may be, here it is a pipe."""
        return False


def _capture() -> None:
    """Write what the code prints at once: a kill must not hide what came before it."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        raw = _Pipe(descriptor, "w", closefd=False)
        text = io.TextIOWrapper(
            raw, encoding="utf-8", errors="backslashreplace", write_through=True
        )
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def _call(kind: str, code: str, given: Any) -> Any:
    module = types.ModuleType(MODULE)
    module.__dict__["__builtins__"] = __builtins__
    module.__dict__["__file__"] = FILE
    sys.modules[MODULE] = module
    lines = code.splitlines(keepends=True)
    linecache.cache[FILE] = (len(code), None, lines, FILE)
    exec(_compiled(code), module.__dict__)  # noqa: S102 - our trade
    name = ENTRY_POINTS[kind]
    if name not in module.__dict__:
        raise NameError(f"a {kind} defines {name}(...)")
    return module.__dict__[name](given)


def _compiled(code: str) -> types.CodeType:
    """The code as the interpreter takes it; what it cannot parse is a fault of the code.

    CPython's parser says MemoryError when its own stack is full, however much memory there is.
    """
    try:
        return compile(code, FILE, "exec", dont_inherit=True)
    except MemoryError:
        raise SyntaxError("the code nests too deep, or is too large, to be parsed") from None


def _encoder() -> Callable[[Any], bytes]:
    """JSON by the C encoder, taken hold of now: later the json module may not be what it was."""
    too_deep, largest, length = frames.too_deep, frames.MAX_VALUE, len
    least, most, long_number = -(2**63), 2**64 - 1, _LONG_NUMBER.search
    # The C encoder itself, which the stubs do not know; what json.JSONEncoder would build.
    make = getattr(json.encoder, "c_make_encoder")  # noqa: B009
    text = getattr(json.encoder, "c_encode_basestring")  # noqa: B009
    indent, sort_keys, skip_keys, allow_nan = None, False, False, False
    encoder = make({}, _refuse, text, indent, ":", ",", sort_keys, skip_keys, allow_nan)

    def encode(value: Any) -> bytes:
        try:
            text = "".join(encoder(value, 0))
        except RecursionError:
            raise NotJson("the value is nested too deeply, or contains itself") from None
        except ValueError as exc:
            raise NotJson(_spoken(exc)) from None
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise NotJson("a text in the value has half of a surrogate pair") from None
        if "\\u0000" in text and any("\0" in leaf for leaf in _leaves(value, str)):
            raise NotJson("a text in the value has a NUL character, which cannot be stored")
        if long_number(text) and any(not least <= leaf <= most for leaf in _leaves(value, int)):
            raise NotJson("an integer in the value has more than 64 bits, which cannot be stored")
        if too_deep(data):
            raise NotJson(f"the value is nested more than {frames.MAX_DEPTH} levels deep")
        if length(data) > largest:
            raise OverflowError(f"the value is {length(data)} bytes of JSON; {largest} are allowed")
        return data

    return encode


def _refuse(value: object) -> NoReturn:
    raise NotJson(f"a {type(value).__name__} is no JSON; give back what json.dumps() takes")


def _spoken(error: ValueError) -> str:
    if "Circular" in str(error):
        return "the value contains itself"
    if "Out of range float" in str(error):
        return "the value has a number that is infinite or not a number (NaN)"
    return str(error)


def _leaves(value: Any, kind: type) -> list[Any]:
    """Every leaf of this kind in a JSON value; keys are texts."""
    found: list[Any] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, kind):
            found.append(item)
        elif isinstance(item, dict):
            waiting += [*item.values(), *(item if kind is str else ())]
        elif isinstance(item, list | tuple):
            waiting += item
    return found


def _without_memory(exc: MemoryError) -> bytes:
    exc.__traceback__ = None
    del exc
    gc.collect()
    return _OUT_OF_MEMORY


def _describe(exc: BaseException) -> bytes:
    """An error as its author may read it: type, message, and the lines of their own code."""
    try:
        too_large = type(exc) is OverflowError and exc.__traceback__ is not None
        reason = "output" if too_large and _is_ours(exc) else "error"
        shown = [line for line in traceback.extract_tb(exc.__traceback__) if line.filename == FILE]
        text = "".join(
            [
                *(["Traceback (most recent call last):\n"] if shown else []),
                *traceback.format_list(shown),
                *traceback.TracebackException(type(exc), exc, None).format_exception_only(),
            ]
        )
        error = {
            "type": _clean(type(exc).__name__, 200),
            "message": _clean(_message(exc), 4096),
            "traceback": _clean(text, _LONGEST_TEXT),
        }
        return json.dumps({"reason": reason, "error": error}).encode()
    except MemoryError:
        return _OUT_OF_MEMORY
    except BaseException:  # noqa: BLE001 - an exception that cannot even be told
        return _NO_ANSWER % b"the code raised what cannot be described"


def _is_ours(exc: BaseException) -> bool:
    """Whether an error was raised here and not by the user's code."""
    last = exc.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_code.co_filename == _is_ours.__code__.co_filename


def _message(exc: BaseException) -> str:
    if isinstance(exc, SystemExit):
        return f"the code asked to exit with {exc.code!r}; return a value instead"
    if isinstance(exc, KeyboardInterrupt):
        return "the code raised KeyboardInterrupt"
    return str(exc)


def _clean(text: str, most: int) -> str:
    """A text that can be stored: no half pairs, no NUL, not endless."""
    text = str(text)[:most]
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
