"""API keys as the API's role may see them: by their digests, and a note that some were used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from csb_core.db import Connection
from csb_core.models import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A key that may be used: whose it is, and its tenant's own limit if there is one."""

    caller: Caller
    tenant_requests_per_minute: int | None = None


def find(conn: Connection, digests: Sequence[bytes]) -> dict[bytes, Known]:
    """Return the keys with these digests; without those unknown, revoked, expired, suspended."""
    rows = conn.execute(
        """
        SELECT d.digest, k.tenant_id, k.tenant_code, k.key_id, k.scopes, k.expires_at,
               k.requests_per_minute, k.tenant_requests_per_minute
          FROM unnest(%s::bytea[]) AS d (digest)
         CROSS JOIN LATERAL csb_app.find_api_key(d.digest) AS k
        """,
        (list(digests),),
    ).fetchall()
    return {
        digest: Known(
            caller=Caller(
                tenant_id=tenant_id,
                tenant_code=tenant_code,
                key_id=key_id,
                scopes=frozenset(scopes),
                expires_at=expires_at,
                requests_per_minute=of_key,
            ),
            tenant_requests_per_minute=of_tenant,
        )
        for digest, tenant_id, tenant_code, key_id, scopes, expires_at, of_key, of_tenant in rows
    }


def touch(conn: Connection, key_ids: Iterable[str]) -> None:
    """Note that these keys were used just now."""
    conn.execute("SELECT csb_app.touch_api_keys(%s)", (list(key_ids),))
