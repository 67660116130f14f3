"""What can go wrong, one class per reaction; each carries a stable `code`."""

from __future__ import annotations

from typing import ClassVar


class BridgeError(Exception):
    """The base of every error that CSecBridge raises on purpose."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False


class ConfigurationError(BridgeError):
    """The process cannot start with these settings; the text names each fault and its remedy."""

    code = "configuration_error"


class StoreUnavailable(BridgeError):
    """PostgreSQL did not answer, or not in time; the outcome of a write may be unknown."""

    code = "store_unavailable"
    retryable = True


class StoreRejected(BridgeError):
    """PostgreSQL refused a statement: a bug of ours or a forbidden move, never an outage."""

    code = "store_rejected"


class QueueUnavailable(BridgeError):
    """Redis did not answer: a message was not published, or none could be read."""

    code = "queue_unavailable"
    retryable = True


class CacheUnavailable(BridgeError):
    """Redis did not answer: a status was neither read from nor written to the cache."""

    code = "cache_unavailable"
    retryable = True


class NotFound(BridgeError):
    """No such thing is visible to the caller's tenant."""

    code = "not_found"


class Conflict(BridgeError):
    """The thing is in a state that does not allow what was asked."""

    code = "conflict"


class NotPermitted(BridgeError):
    """The caller sees the thing, and may not do with it what was asked."""

    code = "not_permitted"


class RevisionMismatch(BridgeError):
    """The thing has changed since the caller read it: read it again, then decide anew."""

    code = "revision_mismatch"


class AccountNotRegistered(BridgeError):
    """The target account is not registered, or not active, for the caller's tenant."""

    code = "account_not_registered"


class LeaseLost(BridgeError):
    """Another worker owns the request now; whoever gets this stops and writes nothing."""

    code = "lease_lost"


class MessageUnreadable(BridgeError):
    """What stood in the list is no message of ours; it is dropped and reported, never retried."""

    code = "message_unreadable"
