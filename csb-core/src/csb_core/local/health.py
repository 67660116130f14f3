"""How a program stands, asked from outside."""

from __future__ import annotations

import http.client
import socket
from typing import Literal

from csb_core.local import ports, postgres
from csb_core.local.programs import Program

Health = Literal["ready", "not ready", "silent"]


def of(program: Program) -> Health:
    """Ask a program whether it is ready; silent when nothing answers on its port."""
    match program.ready:
        case "listens":
            return "ready" if _listens(program.port) else "silent"
        case "postgres":
            return "ready" if postgres.accepts(program.port) else "silent"
        case path:
            return _http(program.port, path)


def _http(port: int, path: str) -> Health:
    connection = http.client.HTTPConnection(ports.HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return "ready" if connection.getresponse().status == 200 else "not ready"
    except (OSError, http.client.HTTPException):
        return "silent"
    finally:
        connection.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((ports.HOST, port), timeout=2).close()
    except OSError:
        return False
    return True
