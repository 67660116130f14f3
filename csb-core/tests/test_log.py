"""The shape of a line, what joins it, and what can never stand in it."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import Request
from gunicorn.http.wsgi import Response

from csb_core import log
from csb_core.gunicorn_log import GunicornLog

TOKEN = "csb_ab12cd34ef56_" + "Zx9" * 14 + "Q"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    kept = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    unraisable = sys.unraisablehook
    source = logging._srcfile
    yield
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = kept
    sys.unraisablehook = unraisable
    logging._srcfile = source
    logging.captureWarnings(capture=False)
    log.start()


class Output:
    """Standard output as a service has it, to be read back."""

    def __init__(self) -> None:
        self.stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)

    def text(self) -> str:
        """Return what was written since the last look."""
        self.stream.seek(0)
        written = self.stream.read()
        self.stream.seek(0)
        self.stream.truncate()
        return written

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines written since the last look; raises unless each is JSON."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    output = Output()
    monkeypatch.setattr(sys, "stdout", output.stream)
    monkeypatch.delenv("CSB_SERVICE", raising=False)
    log.configure("api-service", "debug")
    logging.getLogger("t").setLevel("DEBUG")  # pytest puts the root's level back before the test
    return output


def test_a_line_has_the_fields_that_everybody_searches_by(output: Output) -> None:
    log.start(request_id="req-1", trace_id="a" * 32, tenant_id=uuid.UUID(int=1), user_id="key1")
    logging.getLogger("t").info("request.accepted", extra={"batch": 3})

    [line] = output.lines()
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert line == {
        "level": "INFO",
        "service": "api-service",
        "version": log.service_version(),
        "logger": "t",
        "message": "request.accepted",
        "context": {"user_id": "key1", "batch": 3, "tenant_id": str(uuid.UUID(int=1))},
        "request_id": "req-1",
        "trace_id": "a" * 32,
        "tenant_id": str(uuid.UUID(int=1)),
    }


def test_the_time_is_utc_with_milliseconds() -> None:
    assert log.timestamp(1759228200.1239) == "2025-09-30T10:30:00.123Z"
    assert log.timestamp(1759228200.0) == "2025-09-30T10:30:00.000Z"


def test_fields_of_one_piece_of_work_stay_out_of_the_next(output: Output) -> None:
    logger = logging.getLogger("t")
    log.start(request_id="one", batch=1)
    log.bind(correlation_id="c")
    logger.info("a")
    log.start(request_id="two")
    logger.info("b")
    with log.bound(correlation_id="inner"):
        logger.info("c")
    logger.info("d")

    a, b, c, d = output.lines()
    assert (a["request_id"], a["correlation_id"], a["context"]) == ("one", "c", {"batch": 1})
    assert (b["request_id"], b["context"]) == ("two", {})
    assert "correlation_id" not in b
    assert c["correlation_id"] == "inner"
    assert "correlation_id" not in d


def test_threads_do_not_share_what_is_bound(output: Output) -> None:
    log.start(request_id="mine")
    other = threading.Thread(target=logging.getLogger("t").info, args=("elsewhere",))
    other.start()
    other.join()
    [line] = output.lines()
    assert "request_id" not in line


def test_a_line_says_more_than_what_is_bound(output: Output) -> None:
    log.start(correlation_id="bound", attempt=1)
    logging.getLogger("t").info("x", extra={"correlation_id": "said", "attempt": 2})
    [line] = output.lines()
    assert line["correlation_id"] == "said"
    assert line["context"] == {"attempt": 2}


def test_no_secret_comes_out_by_any_way(output: Output) -> None:
    logger = logging.getLogger("t")
    log.start(request_id=TOKEN, note=TOKEN)
    logger.info("token %s", TOKEN)
    logger.info(
        "x", extra={"headers": {"Authorization": f"Bearer {TOKEN}"}, "deep": [{"k": TOKEN}]}
    )
    logger.info("x", extra={"url": "postgresql://u:hunter2@db/x", "secret_access_key": "hunter2"})
    logger.info({"raw": TOKEN})
    logger.warning("x", stack_info=True, extra={TOKEN: TOKEN})
    out = output.text()
    assert TOKEN[17:] not in out.replace(f'"{TOKEN}":', "")
    assert "hunter2" not in out
    assert not output.lines()


def test_no_secret_comes_out_of_a_traceback(output: Output) -> None:
    error = ConnectionError(f"postgresql://u:hunter2@db refused {TOKEN}")
    try:
        raise error from KeyError(TOKEN)
    except ConnectionError:
        logging.getLogger("t").exception("store.failed", extra={"why": TOKEN})
    out = output.text()
    assert TOKEN[17:] not in out
    assert "hunter2" not in out
    line = json.loads(out)
    assert "ConnectionError" in line["context"]["exception"]
    assert "KeyError" in line["context"]["exception"]


def test_uncaught_exceptions_are_lines_too(output: Output) -> None:
    error = RuntimeError(TOKEN)
    sys.excepthook(RuntimeError, error, None)
    crash = threading.Thread(target=lambda: 1 // 0, name="beat")
    crash.start()
    crash.join()
    process, thread = output.lines()
    assert (process["message"], process["level"]) == ("process.crashed", "CRITICAL")
    assert TOKEN[17:] not in str(process)
    assert thread["message"] == "thread.crashed"
    assert thread["context"]["thread_name"] == "beat"
    assert "ZeroDivisionError" in thread["context"]["exception"]


def test_what_python_can_only_drop_is_a_line_too(output: Output) -> None:
    class Finalised:
        def __del__(self) -> None:
            raise RuntimeError("too late for anybody")

    Finalised()

    [line] = output.lines()
    assert (line["level"], line["message"]) == ("ERROR", "process.exception_ignored")
    assert "too late for anybody" in line["context"]["exception"]
    assert line["context"]["within"] == "function"


def test_warnings_are_lines_too(output: Output) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    [line] = output.lines()
    assert line["logger"] == "py.warnings"


@pytest.mark.parametrize("value", ["\ud800", 2**80, object(), {1: {2}}, float("nan"), b"\xff"])
def test_whatever_is_in_a_field_the_line_is_written(output: Output, value: object) -> None:
    logging.getLogger("t").info("x", extra={"value": value})
    [line] = output.lines()
    assert "value" in line["context"]


def test_an_endless_text_loses_its_middle(output: Output) -> None:
    endless = "a" * 20_000 + "end"
    logging.getLogger("t").info(endless)
    [line] = output.lines()
    assert len(line["message"]) < 9000
    assert line["message"].endswith("end")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "a" * 32),
        (None, None),
        ("", None),
        ("00-short-b-01", None),
        ("00-" + "A" * 32 + "-" + "b" * 16 + "-01", None),
    ],
)
def test_a_trace_id_is_taken_from_a_valid_traceparent_only(
    header: str | None, found: str | None
) -> None:
    assert log.trace_id(header) == found


@pytest.fixture
def gunicorn_log(output: Output) -> GunicornLog:
    assert output  # in place before gunicorn asks for it
    config = Config()
    config.set("accesslog", "-")
    config.set("proc_name", "api-service")
    return GunicornLog(config)


def _serve(gunicorn_log: GunicornLog, **environ: str) -> None:
    config = Config()
    request = object.__new__(Request)
    response = object.__new__(Response)
    response.status, response.sent, response.cfg = "202 Accepted", 512, config
    asked = {"REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/requests", "QUERY_STRING": "q=hunter2"}
    gunicorn_log.access(response, request, asked | environ, timedelta(microseconds=3250))


def test_an_access_line_has_the_same_fields(gunicorn_log: GunicornLog, output: Output) -> None:
    log.start(
        request_id="r", correlation_id="c", tenant_id="t", user_id="k", route="/api/v1/requests"
    )
    _serve(gunicorn_log, REMOTE_ADDR="10.0.0.1")
    line = json.loads(output.text())
    del line["timestamp"]
    assert line == {
        "level": "INFO",
        "service": "api-service",
        "version": log.service_version(),
        "logger": "gunicorn.access",
        "message": "http.served",
        "context": {
            "method": "POST",
            "path": "/api/v1/requests",
            "status": 202,
            "duration_ms": 3.25,
            "bytes": 512,
            "remote_address": "10.0.0.1",
            "user_id": "k",
            "route": "/api/v1/requests",
            "tenant_id": "t",
        },
        "request_id": "r",
        "correlation_id": "c",
        "tenant_id": "t",
    }


def test_an_access_line_shows_no_query_and_no_secret_and_ends_its_work(
    gunicorn_log: GunicornLog, output: Output
) -> None:
    log.start(request_id=TOKEN)
    _serve(gunicorn_log, PATH_INFO=f"/x/{TOKEN}/\udcff\n")
    out = output.text()
    assert TOKEN[17:] not in out
    assert "hunter2" not in out
    assert out.count("\n") == 1
    assert not log.bound_fields()


def test_gunicorns_own_lines_are_json(gunicorn_log: GunicornLog, output: Output) -> None:
    gunicorn_log.info("Booting worker with pid: %s", 7)
    gunicorn_log.exception("Error handling request %s", f"/x?key={TOKEN}")
    booting, failed = output.lines()
    assert (booting["logger"], booting["service"]) == ("gunicorn.error", "api-service")
    assert booting["message"] == "Booting worker with pid: 7"
    assert TOKEN[17:] not in failed["message"]
    assert failed["context"] == {}
