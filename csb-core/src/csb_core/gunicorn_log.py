"""gunicorn's own lines in the platform's shape: `logger_class` of every service's configuration."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TextIO

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import Request
from gunicorn.http.wsgi import Response

from csb_core import log
from csb_core.redaction import redact, redact_field

#: A longer path is cut: it is the caller's, and a line must fit into one write.
_LONGEST_PATH: Final = 512


class GunicornLog(Logger):
    """Writes gunicorn's error and access lines as JSON to standard output.

    The service's name is CSB_SERVICE, or else gunicorn's `proc_name`. An access line carries the
    fields bound to its request, and unbinds them: a connection's next request starts with none.
    """

    def setup(self, cfg: Config) -> None:
        """Set up the platform's logging, then point gunicorn's two loggers at it."""
        super().setup(cfg)
        service = os.environ.get("CSB_SERVICE") or cfg.proc_name or "gunicorn"
        log.configure(service, cfg.loglevel)
        self._constant = {"service": service, "version": log.service_version()}
        for handler in _streams_of(self.error_log):
            handler.setFormatter(log.JsonLines(service))
            if handler.stream is sys.stderr:
                handler.setStream(sys.stdout)
        self._access_handlers = _streams_of(self.access_log)

    def access(
        self, resp: Response, req: Request, environ: Mapping[str, Any], request_time: timedelta
    ) -> None:
        """Write one line per request, past logging's own way: that costs more than the line."""
        del req  # gunicorn's, and not needed
        if self.access_log_enabled:
            line = log.dump(self._line(resp, environ, request_time)).encode() + b"\n"
            for handler in self._access_handlers:
                handler.stream.buffer.write(line)
                handler.stream.buffer.flush()
        log.start()

    def _line(
        self, resp: Response, environ: Mapping[str, Any], request_time: timedelta
    ) -> dict[str, Any]:
        bound = log.bound_fields()
        context: dict[str, Any] = {
            "method": environ.get("REQUEST_METHOD"),
            "path": redact(str(environ.get("PATH_INFO", ""))[:_LONGEST_PATH]),
            "status": _status(resp.status),
            "duration_ms": round(request_time.total_seconds() * 1000, 3),
            "bytes": resp.sent,
            "remote_address": environ.get("REMOTE_ADDR"),
        }
        top: dict[str, str] = {}
        for name, value in bound.items():
            if value is None:
                continue
            if name in log.TOP_FIELDS:
                top[name] = redact(str(value))
            else:
                context[name] = redact_field(name, value)
        if "tenant_id" in top:
            context["tenant_id"] = top["tenant_id"]
        return {
            "timestamp": log.timestamp(time.time()),
            "level": "INFO",
            **self._constant,
            "logger": self.access_log.name,
            "message": "http.served",
            "context": context,
            **top,
        }


def _streams_of(logger: logging.Logger) -> list[logging.StreamHandler[TextIO]]:
    """Return the handlers that gunicorn gave to its logger."""
    handlers = [h for h in logger.handlers if isinstance(h, logging.StreamHandler)]
    return [h for h in handlers if getattr(h, "_gunicorn", False)]


def _status(status: object) -> int:
    """Return the number of `200 OK`, which gunicorn's workers give in three types."""
    text = status.decode() if isinstance(status, bytes) else str(status)
    number = text.split(None, 1)[0] if text else "0"
    return int(number) if number.isdigit() else 0
