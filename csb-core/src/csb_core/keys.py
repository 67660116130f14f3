"""Every Redis key, and the shape of an API key, each in one tiny function."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from typing import Final
from uuid import UUID

_LOWER: Final = string.ascii_lowercase + string.digits
_BASE62: Final = string.ascii_letters + string.digits
TOKEN: Final = re.compile(r"csb_(?P<key_id>[a-z0-9]{12})_(?P<secret>[A-Za-z0-9]{43})")


def queue(provider: str) -> str:
    """The provider's messages that nobody has sorted yet, newest at the left (a LIST)."""
    return f"queue:{provider}"


def tenants_queues(provider: str) -> str:
    """What the names of the tenants' lists begin with; the tenant's id follows (LISTs)."""
    return f"queue:{provider}:of:"


def queue_round(provider: str) -> str:
    """The tenants that have sorted messages, the next in turn first (a ZSET)."""
    return f"queue:{provider}:round"


def queue_baton(provider: str) -> str:
    """Not empty while tenants' lists are not; it wakes one worker (a LIST of one)."""
    return f"queue:{provider}:baton"


def status(correlation_id: UUID | str) -> str:
    """The cached status document (a STRING)."""
    return f"cache:status:{correlation_id}"


def floor(correlation_id: UUID | str) -> str:
    """The lowest version that may still be cached, and the floor's epoch (a STRING)."""
    return f"cache:floor:{correlation_id}"


def moved(correlation_id: UUID | str) -> str:
    """Where the new version is told to whoever waits for a move (a CHANNEL)."""
    return f"moved:{correlation_id}"


def limit(counted: str, window: int) -> str:
    """What was used up of a rate limit in one of its windows (a STRING, an integer)."""
    return f"limit:{counted}:{window}"


def util(digest: str) -> str:
    """A util's code and what belongs to it, under the digest of just that (a STRING)."""
    return f"cache:util:{digest}"


def util_head(tenant_id: UUID, key_id: str, util_id: UUID, version: int | None) -> str:
    """Which version this caller would run now, naming `version` or none (a STRING)."""
    return f"cache:util-head:{tenant_id}:{key_id}:{util_id}:{version or 'active'}"


def util_generation(util_id: UUID) -> str:
    """Raised by each change of a util; heads of another generation are void (a STRING)."""
    return f"cache:util-generation:{util_id}"


def utils_changed() -> str:
    """Where the API's processes tell each other which util has changed (a CHANNEL)."""
    return "utils:changed"


def sandbox_runtime() -> str:
    """What the sandbox workers say of themselves (a STRING)."""
    return "sandbox:runtime"


def new_token() -> str:
    """A fresh API key `csb_<key id>_<secret>`; 43 characters of base 62 carry 256 bits."""
    key_id = "".join(secrets.choice(_LOWER) for _ in range(12))
    secret = "".join(secrets.choice(_BASE62) for _ in range(43))
    return f"csb_{key_id}_{secret}"


def key_id_of(token: str) -> str | None:
    """The public part of a token, or None when it does not have the shape of one."""
    matched = TOKEN.fullmatch(token)
    return matched["key_id"] if matched else None


def token_digest(token: str) -> bytes:
    """What is stored of a token: its SHA-256. A token is random, so it needs no salt."""
    return hashlib.sha256(token.encode()).digest()
