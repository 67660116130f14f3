"""The store of API keys. Each change leaves its row in csb_control_audit by a trigger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg.rows import class_row

from csb_core import keys
from csb_core.db import Connection
from csb_core.errors import NotFound

SCOPES: Final = (
    *("requests:read", "requests:write", "requests:operate"),
    *("utils:read", "utils:write", "utils:execute"),
    "admin",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What may be known of a key once its token was shown."""

    key_id: str
    tenant_id: UUID
    label: str
    scopes: list[str]
    requests_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a new key may do, and for how long."""

    scopes: Sequence[str]
    label: str = ""
    expires_at: datetime | None = None
    requests_per_minute: int | None = None


def create(
    conn: Connection,
    tenant_id: UUID,
    terms: Terms,
) -> tuple[str, ApiKey]:
    """Add a key; the token is returned here and can never be read again."""
    token = keys.new_token()
    with conn.cursor(row_factory=class_row(ApiKey)) as cur:
        cur.execute(
            """
            INSERT INTO csb_app.csb_api_keys (key_id, tenant_id, digest, label, scopes, expires_at,
                                              requests_per_minute)
            VALUES (%(key_id)s, %(tenant_id)s, %(digest)s, %(label)s, %(scopes)s, %(expires_at)s,
                    %(requests_per_minute)s)
            RETURNING key_id, tenant_id, label, scopes, requests_per_minute, created_at,
                      expires_at, revoked_at, last_used_at, replaced_by
            """,
            {
                "key_id": keys.key_id_of(token),
                "tenant_id": tenant_id,
                "digest": keys.token_digest(token),
                "label": terms.label,
                "scopes": list(terms.scopes),
                "expires_at": terms.expires_at,
                "requests_per_minute": terms.requests_per_minute,
            },
        )
        return token, cur.fetchall()[0]


def list_of(conn: Connection, tenant_id: UUID) -> list[ApiKey]:
    """Return a tenant's keys, the newest first."""
    with conn.cursor(row_factory=class_row(ApiKey)) as cur:
        cur.execute(
            """
            SELECT key_id, tenant_id, label, scopes, requests_per_minute, created_at, expires_at,
                   revoked_at, last_used_at, replaced_by
              FROM csb_app.csb_api_keys
             WHERE tenant_id = %s
             ORDER BY created_at DESC, key_id
            """,
            (tenant_id,),
        )
        return cur.fetchall()


def revoke(conn: Connection, key_id: str) -> None:
    """End a key; services notice within five seconds. Raises NotFound when none is active."""
    done = conn.execute(
        """
        UPDATE csb_app.csb_api_keys
           SET revoked_at = now()
         WHERE key_id = %s
           AND revoked_at IS NULL
        """,
        (key_id,),
    )
    if done.rowcount == 0:
        raise NotFound(f"no active key has the id {key_id!r}; `csbctl key list` shows them")


def rotate(conn: Connection, key_id: str, *, overlap: timedelta) -> tuple[str, ApiKey]:
    """Add a key like this one, and let this one end after `overlap`; returns the new token.

    The new key lives, from now on, as long as this one was to live from the beginning.
    Raises NotFound when there is no such key, or it is revoked, expired or replaced already.
    """
    token = keys.new_token()
    with conn.cursor(row_factory=class_row(ApiKey)) as cur:
        cur.execute(
            """
            WITH fresh AS (
                INSERT INTO csb_app.csb_api_keys (key_id, tenant_id, digest, label, scopes,
                                                  expires_at, requests_per_minute)
                SELECT %(fresh_id)s, tenant_id, %(digest)s, label, scopes,
                       now() + (expires_at - created_at), requests_per_minute
                  FROM csb_app.csb_api_keys
                 WHERE key_id = %(key_id)s
                   AND revoked_at IS NULL
                   AND replaced_by IS NULL
                   AND (expires_at IS NULL OR expires_at > now())
                   FOR UPDATE
                RETURNING key_id, tenant_id, label, scopes, requests_per_minute, created_at,
                          expires_at, revoked_at, last_used_at, replaced_by
            ), old AS (
                UPDATE csb_app.csb_api_keys k
                   SET replaced_by = fresh.key_id,
                       expires_at  = LEAST(k.expires_at, now() + %(overlap)s)
                  FROM fresh
                 WHERE k.key_id = %(key_id)s
            )
            SELECT key_id, tenant_id, label, scopes, requests_per_minute, created_at, expires_at,
                   revoked_at, last_used_at, replaced_by
              FROM fresh
            """,
            {
                "key_id": key_id,
                "fresh_id": keys.key_id_of(token),
                "digest": keys.token_digest(token),
                "overlap": overlap,
            },
        )
        key = cur.fetchone()
    if key is None:
        raise NotFound(f"no key {key_id!r} can be rotated: unknown, ended or replaced already")
    return token, key
