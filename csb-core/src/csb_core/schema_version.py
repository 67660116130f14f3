"""The schema that this code works with, and the one that a database has."""

from __future__ import annotations

from typing import Final

import psycopg

from csb_core.db import Connection

#: The newest migration; code of this version needs it and all before it.
NEEDED: Final = 25

#: What a service's role meets in a database that the first migrations have not reached.
_NOT_THERE_YET: Final = (
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
)


def applied(conn: Connection) -> int:
    """Return the number of the newest migration that is applied, 0 before that can be told."""
    try:
        row = conn.execute("SELECT csb_app.schema_version()").fetchone()
    except _NOT_THERE_YET:
        return 0
    return int(row[0] or 0) if row else 0
