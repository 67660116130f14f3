"""The worker's one look at a util: the version that a claimed request pins."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from csb_core.contract import digest_of
from csb_core.db import Connection
from csb_core.models import Json
from csb_core.util_models import UtilKind


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilCode:
    """What is executed: the code, what it declares, and its stored examples."""

    kind: UtilKind
    code: str
    parameters: Json
    execution_config: Json
    test_cases: list[Json]


def fetch(conn: Connection, correlation_id: UUID, token: int) -> UtilCode | None:
    """What the request runs that is held under this token; None when it is not, or not any more.

    `conn` is in autocommit; one round trip.
    """
    with conn.cursor(row_factory=class_row(UtilCode)) as cur:
        cur.execute(
            """
            SELECT kind, code, parameters, execution_config, test_cases
              FROM csb_app.claimed_util(%s, %s)
            """,
            (correlation_id, token),
        )
        return cur.fetchone()


def code_digest(kind: UtilKind, code: str, parameters: Json, execution_config: Json) -> str:
    """The SHA-256, in hex, of the canonical JSON of what decides how a version runs."""
    return digest_of(
        {
            "kind": kind,
            "code": code,
            "parameters": parameters,
            "execution_config": execution_config,
        }
    )
