"""Where csbctl finds the platform: the environment, or the file that the local platform writes."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import orjson
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import set_json_loads

from csb_core import queue
from csb_core.control_audit import acting
from csb_core.db import Connection
from csb_core.errors import ConfigurationError, StoreRejected, StoreUnavailable
from csb_core.queue import Redis

DATABASE: Final = "CSB_ADMIN_DATABASE_URL"
REDIS: Final = "CSB_REDIS_URL"

#: Written by `make up` in the repository's root.
LOCAL: Final = Path(".run/csb.env")

_REMEDIES: Final = (
    (
        (
            psycopg.errors.InvalidSchemaName,
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedColumn,
            psycopg.errors.UndefinedFunction,
        ),
        "has `migrate.py up` run?",
    ),
    (psycopg.errors.InsufficientPrivilege, f"is {DATABASE} that of csb_admin_user?"),
    (psycopg.errors.ReadOnlySqlTransaction, "is this a standby?"),
)

_TAKEN: Final = ("CSB_", "AWS_")


def settle(environ: MutableMapping[str, str], file: Path = LOCAL) -> None:
    """Complete `environ` from the local platform's file, unless a platform is named already.

    All or nothing: half of one platform and half of another would be worse than neither.
    """
    if environ.get(DATABASE) or environ.get(REDIS) or not file.is_file():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.partition("=")
        if separator and name.startswith(_TAKEN):
            environ.setdefault(name, value)


def required(environ: MutableMapping[str, str], name: str) -> str:
    """Return a setting; raises ConfigurationError that says how to set it."""
    value = environ.get(name, "")
    if not value:
        raise ConfigurationError(
            f"{name} is not set: export it, or run csbctl where .run/csb.env is (after `make up`)"
        )
    return value


def database_url(environ: MutableMapping[str, str], name: str) -> str:
    """Return a database's URL; raises ConfigurationError, in words that hold no part of it."""
    url = required(environ, name)
    try:
        conninfo_to_dict(url)
    except psycopg.Error:
        raise ConfigurationError(
            f"{name}: not like postgresql://USER@HOST:PORT/NAME, with a password after the user's "
            "name; what stands in it beside letters and digits is quoted as URLs are"
        ) from None
    return url


@contextmanager
def database(environ: MutableMapping[str, str], actor: str) -> Iterator[Connection]:
    """One transaction as the administrator's role, put down to `actor`; raises as `connection`."""
    with connection(environ) as conn, acting(conn, actor):
        yield conn


@contextmanager
def connection(environ: MutableMapping[str, str]) -> Iterator[Connection]:
    """A connection as the administrator's role, for what takes more than one transaction.

    Raises StoreUnavailable when PostgreSQL is away, StoreRejected when it refused something.
    """
    url = database_url(environ, DATABASE)
    try:
        with psycopg.connect(
            url, autocommit=True, connect_timeout=5, application_name="csbctl"
        ) as conn:
            set_json_loads(orjson.loads, conn)
            yield conn
    except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
        raise StoreUnavailable(f"{DATABASE}: the database did not answer: {exc}") from exc
    except psycopg.Error as exc:
        raise StoreRejected(f"the database refused this: {_reason(exc)}") from exc
    except UnicodeEncodeError as exc:
        raise ConfigurationError("what was given is not text in UTF-8") from exc


def redis(environ: MutableMapping[str, str]) -> Redis:
    """A client of the queue's Redis; raises ConfigurationError as `database_url` does."""
    url = required(environ, REDIS)
    try:
        return queue.connect(url, timeout=timedelta(seconds=5), connections=2)
    except ValueError:
        raise ConfigurationError(f"{REDIS}: not like redis://HOST:PORT/0") from None


def _reason(exc: psycopg.Error) -> str:
    """Name the rule that a value broke, not the statement that brought it; and a remedy."""
    constraint = exc.diag.constraint_name
    if constraint:
        return f"{exc.diag.message_primary} ({constraint})"
    told = exc.diag.message_primary or str(exc)
    return next((f"{told}; {do}" for kinds, do in _REMEDIES if isinstance(exc, kinds)), told)
