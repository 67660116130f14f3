"""What an error of Redis means to whoever operates it, in words that hold nothing of its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import redis

#: What Redis begins an error with -> what to do about it. The rest of the text stays here: it may
#: name keys, users and addresses.
REMEDIES: Final[Mapping[str, str]] = {
    "NOAUTH": "CSB_REDIS_URL lacks its password",
    "WRONGPASS": "CSB_REDIS_URL has another user or password than Redis",
    "NOPERM": "the user in CSB_REDIS_URL may not do this: widen its ACL",
    "READONLY": "CSB_REDIS_URL leads to a replica: it must lead to the primary",
    "OOM": "it is full: give it more maxmemory",
    "MISCONF": "it cannot save to its disk and takes no writes: look at its log and its disk",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "NOREPLICAS": "it takes no writes while it has too few replicas",
    "MOVED": "it is a cluster: CSB_REDIS_URL must lead to a single primary",
    "CROSSSLOT": "it is a cluster: CSB_REDIS_URL must lead to a single primary",
    "WRONGTYPE": "a key of ours holds what is not ours: is this Redis somebody else's too?",
}


def told(exc: redis.RedisError | OSError) -> str:
    """One line for the log and the operator: what happened, and what to do where that is known."""
    code = getattr(exc, "status_code", None) or str(exc).partition(" ")[0]
    if code in REMEDIES:
        return f"Redis refused this ({code}): {REMEDIES[code]}"
    return f"Redis did not answer ({type(exc).__name__})"
