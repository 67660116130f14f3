"""The only doors to rows: a pool, a connection, a tenant's transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Literal
from uuid import UUID

import orjson
import psycopg
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from csb_core.errors import StoreRejected, StoreUnavailable

Connection = psycopg.Connection[Any]
Pool = ConnectionPool[Connection]

#: Errors after which a connection, the server or a lock was to blame, not the statement. The last
#: one is a primary that has become a standby.
_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
)
#: "Program limit exceeded": operational to psycopg, yet the same statement meets it each time.
_LIMIT_EXCEEDED = "54"
#: How long a probe waits for a connection of the pool before it asks PostgreSQL past it.
PATIENCE_WITH_POOL: Final = timedelta(seconds=0.3)


def open_pool(
    url: str,
    *,
    name: str,
    least: int,
    most: int,
    timeout: timedelta,
    prepare: bool = True,
    kind: type[Pool] = ConnectionPool,
) -> Pool:
    """Open a pool of autocommit connections; call it after the fork, never before.

    It comes back at once, also when PostgreSQL is away: connections are made when they can be.
    """
    pool = kind(
        url,
        kwargs={
            "autocommit": True,
            "prepare_threshold": 5 if prepare else None,
            "connect_timeout": 3,
            "application_name": name,
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,  # ms; keepalives do not watch over what is on its way
        },
        configure=_configure,
        min_size=min(least, most),
        max_size=most,
        timeout=timeout.total_seconds(),
        max_waiting=most * 50,
        max_idle=300,
        # Past it a new attempt is made when a connection is asked for, at once; until then the pool
        # goes on by itself, ever more slowly, while the server may long be back.
        reconnect_timeout=1,
        open=False,
        name=name,
    )
    pool.open(wait=False)
    return pool


@contextmanager
def connection(pool: Pool) -> Iterator[Connection]:
    """Lend an autocommit connection: each statement is a transaction of its own.

    Raises StoreUnavailable when PostgreSQL is away, slow or shed us (a write may then have
    happened or not), StoreRejected when it refused the statement.
    """
    try:
        with pool.connection() as conn:
            yield conn
    except (PoolTimeout, PoolClosed, TooManyRequests) as exc:
        raise StoreUnavailable("no database connection is free or can be made") from exc
    except psycopg.Error as exc:
        if not isinstance(exc, _PASSING) or (exc.sqlstate or "").startswith(_LIMIT_EXCEEDED):
            raise StoreRejected(f"the database refused a statement ({type(exc).__name__})") from exc
        pool.check()  # its siblings are likely dead as well: drop them now, not at their next use
        raise StoreUnavailable(f"the database did not answer ({type(exc).__name__})") from exc


@contextmanager
def tenant_transaction(
    pool: Pool, tenant_id: UUID, *, key_id: str | None = None
) -> Iterator[Connection]:
    """A transaction that sees the rows of one tenant; the setting ends with it.

    With `key_id`, a key of that tenant, it sees the utils that are shared with this key as well.
    Raises what `connection` raises.
    """
    with connection(pool) as conn, conn.transaction():
        conn.execute(
            "SELECT set_config('csb.tenant_id', %s, true), set_config('csb.key_id', %s, true)",
            (str(tenant_id), key_id or ""),
        )
        yield conn


def ping(pool: Pool, timeout: timedelta) -> None:
    """Return if PostgreSQL answers in time; raises StoreUnavailable."""
    try:
        with pool.connection(timeout=timeout.total_seconds()) as conn:
            conn.execute("SELECT 1")
    except (PoolTimeout, PoolClosed, TooManyRequests, *_PASSING) as exc:
        raise StoreUnavailable(f"the database did not answer ({type(exc).__name__})") from exc


def ping_past(pool: Pool) -> None:
    """Return if PostgreSQL answers on a connection of its own: the pool's may all be lent or dead.

    Raises StoreUnavailable.
    """
    conninfo = pool.conninfo() if callable(pool.conninfo) else pool.conninfo
    try:
        with psycopg.connect(conninfo, connect_timeout=1, autocommit=True) as conn:
            conn.execute("SELECT 1")
    except psycopg.Error as exc:
        raise StoreUnavailable(f"the database did not answer ({type(exc).__name__})") from exc


def standing(pool: Pool) -> Literal["ok", "busy"]:
    """Return ok, or busy when PostgreSQL answers and the pool has no connection to spare.

    Raises StoreUnavailable.
    """
    try:
        ping(pool, PATIENCE_WITH_POOL)
    except StoreUnavailable:
        ping_past(pool)
        return "busy"
    return "ok"


def _configure(conn: Connection) -> None:
    set_json_loads(orjson.loads, conn)
