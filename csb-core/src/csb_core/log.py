"""JSON lines on standard output, in every process alike; the one place that knows their shape.

A line is an event: `log.info("request.accepted", extra={"batch": 3})`. What is bound to the work
in hand (request, trace, tenant, key) joins every line that the work writes, and only lines: nothing
reads it back to decide anything.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.metadata import version
from types import MappingProxyType, TracebackType
from typing import Any, Final

import orjson
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.orjson import OrjsonFormatter

from csb_core.redaction import redact, redact_field, redact_value

#: Fields that stand at the top of a line; all others go into its `context`.
TOP_FIELDS: Final = ("request_id", "trace_id", "correlation_id", "tenant_id")

#: Top fields that the context repeats, as readers of the older format look for them there.
_IN_CONTEXT_TOO: Final = "tenant_id"

#: A longer message or traceback loses its middle: runtimes split lines at 16 KiB.
_LONGEST_TEXT: Final = 8192

#: What Python makes of `exc_info` outside of an `except` block.
_NO_EXCEPTION: Final = "NoneType: None"

#: What logging itself, or a library that knows its consoles, puts into a record.
_OF_EVERY_RECORD: Final = frozenset({*RESERVED_ATTRS, "message", "asctime", "color_message"})

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_bound: ContextVar[Mapping[str, Any]] = ContextVar("csb_log_fields", default=_NOTHING)


def configure(service: str, level: str = "INFO") -> None:
    """Make this process write JSON lines, warnings and uncaught exceptions included."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    _collect_only_what_is_shown()
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def _collect_only_what_is_shown() -> None:
    """Spare each record the caller's frame and the thread's name, as logging's manual advises."""
    logging._srcfile = None  # noqa: SLF001 - the switch that the manual names
    logging.logThreads = False
    logging.logMultiprocessing = False
    logging.logProcesses = False


def start(**fields: object) -> None:
    """Begin a new piece of work: forget what was bound before and bind `fields`."""
    _bound.set(MappingProxyType(fields))


def bind(**fields: object) -> None:
    """Add `fields` to every line that this piece of work writes from here on."""
    _bound.set(MappingProxyType({**_bound.get(), **fields}))


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add `fields` to the lines written inside the block, and to no others."""
    token = _bound.set(MappingProxyType({**_bound.get(), **fields}))
    try:
        yield
    finally:
        _bound.reset(token)


def bound_fields() -> Mapping[str, Any]:
    """Return what is bound to the work in hand; for lines that are not made by `logging`."""
    return _bound.get()


def trace_id(traceparent: str | None) -> str | None:
    """Return the trace id of a W3C traceparent, None when there is none or it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else None


def timestamp(seconds: float) -> str:
    """Return a Unix time as ISO 8601 in UTC with milliseconds."""
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


def service_version() -> str:
    """Return the version of the installed platform."""
    return version("csb-core")


def dump(line: Mapping[str, Any]) -> str:
    """Return a line as JSON; never raises, whatever somebody put into a field."""
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        return json.dumps(line, default=str)


class JsonLines(OrjsonFormatter):
    """Gives a log record the fields that every line has, with all secrets masked."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._version = service_version()

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Fill `log_data` in the order in which people read it."""
        context: dict[str, Any] = {}
        top: dict[str, Any] = {}
        said = {n: v for n, v in record.__dict__.items() if n not in _OF_EVERY_RECORD}
        for name, value in {**_bound.get(), **said}.items():
            if value is None:
                continue
            if name in TOP_FIELDS:
                top[name] = redact(str(value))
            else:
                context[name] = redact_field(name, value)
        if _IN_CONTEXT_TOO in top:
            context[_IN_CONTEXT_TOO] = top[_IN_CONTEXT_TOO]
        for name, text in message_dict.items():
            if text == _NO_EXCEPTION:
                continue
            shown = "exception" if name == "exc_info" else name
            context[shown] = _shortened(text) if isinstance(text, str) else redact_value(text)

        log_data["timestamp"] = timestamp(record.created)
        log_data["level"] = record.levelname
        log_data["service"] = self._service
        log_data["version"] = self._version
        log_data["logger"] = record.name
        log_data["message"] = _shortened(record.message)
        log_data["context"] = context
        log_data.update(top)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Return the line as JSON."""
        return dump(log_data)


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _shortened(text: str) -> str:
    """Return `text` without secrets and, when too long, without its middle."""
    text = redact(text)
    if len(text) <= _LONGEST_TEXT:
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[:half]} ... {len(text) - _LONGEST_TEXT} characters left out ... {text[-half:]}"


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("csb_core").critical("process.crashed", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is None or issubclass(crash.exc_type, SystemExit):
        return
    logging.getLogger("csb_core").critical(
        "thread.crashed",
        exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback),
        extra={"thread_name": crash.thread.name if crash.thread else None},
    )


def _log_unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """What Python drops where nobody can catch it: in a finaliser, or while a process ends."""
    if ignored.exc_value is not None:
        logging.getLogger("csb_core").error(
            "process.exception_ignored",
            exc_info=(ignored.exc_type, ignored.exc_value, ignored.exc_traceback),
            extra={"within": type(ignored.object).__qualname__},
        )
