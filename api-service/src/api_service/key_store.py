"""API keys as the API's role may see them: one by its digest, and a note that some were used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from csb_core.db import Connection
from csb_core.models import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A key that may be used: whose it is, and its tenant's own limit if there is one."""

    caller: Caller
    tenant_requests_per_minute: int | None = None


def find(conn: Connection, digest: bytes) -> Known | None:
    """Return the key with this digest; None for one unknown, revoked, expired or suspended."""
    row = conn.execute(
        """
        SELECT tenant_id, tenant_code, key_id, scopes, expires_at, requests_per_minute,
               tenant_requests_per_minute
          FROM csb_app.find_api_key(%s)
        """,
        (digest,),
    ).fetchone()
    if row is None:
        return None
    tenant_id, tenant_code, key_id, scopes, expires_at, of_key, of_tenant = row
    caller = Caller(
        tenant_id=tenant_id,
        tenant_code=tenant_code,
        key_id=key_id,
        scopes=frozenset(scopes),
        expires_at=expires_at,
        requests_per_minute=of_key,
    )
    return Known(caller=caller, tenant_requests_per_minute=of_tenant)


def touch(conn: Connection, key_ids: Iterable[str]) -> None:
    """Note that these keys were used just now."""
    conn.execute("SELECT csb_app.touch_api_keys(%s)", (list(key_ids),))
