"""The values that travel along the line: drafts, requests, messages, leases, outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from csb_core.states import Status

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A registered account and the role through which it is entered.

    `registered_at` is None where it does not matter, e.g. before the account is registered.
    """

    account_id: str
    role_arn: str
    external_id: str
    registered_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilLimits:
    """What one execution of a util may take."""

    timeout_seconds: float
    memory_limit_mb: int
    cpu_limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedUtil:
    """Which version of which util a request runs, and within which limits; it never changes."""

    util_id: UUID
    version: int
    digest: str
    limits: UtilLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One valid request before it is a row: `payload` is what the caller posted, checked.

    `correlation_id` is made by the API, so that after a lost commit acknowledgement it can look
    whether the row is there. `digest` is the SHA-256 of the payload's canonical JSON, in hex.
    `util` is what the sandbox is to run; `advisory` lets it be one that the validator refused.
    """

    correlation_id: UUID
    tenant_id: UUID
    payload: Json
    digest: str
    client_request_id: str | None
    requested_by: str
    request_id: str
    traceparent: str | None
    replay_of: UUID | None = None
    util: PinnedUtil | None = None
    advisory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A row of csb_requests as its tenant may see it."""

    correlation_id: UUID
    tenant_id: UUID
    status: Status
    version: int
    cloud_provider: str
    action: str
    account_id: str | None
    principal: Json | None
    parameters: Json
    dry_run: bool
    client_request_id: str | None
    attempt: int
    max_attempts: int
    result: Json | None
    changed: bool | None
    error: Json | None
    requested_by: str
    replay_of: UUID | None
    available_at: datetime
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    util: PinnedUtil | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What stands in a provider's list: which request to look at, and a copy of its payload.

    The payload is never executed; its digest must equal the row's, or the message is refused.
    `published_at` is the database's clock, so that it compares with the row's `rung_at`.
    """

    correlation_id: UUID
    tenant_id: UUID
    attempt: int
    published_at: datetime
    traceparent: str | None
    payload: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One claimed request: what to execute, and the token that every later write must name."""

    correlation_id: UUID
    tenant_id: UUID
    version: int
    cloud_provider: str
    action: str
    account_id: str | None
    principal: Json | None
    parameters: Json
    dry_run: bool
    payload: Json
    attempt: int
    retries: int
    max_attempts: int
    token: int
    traceparent: str | None
    requested_by: str
    request_id: str
    checkpoint: Json | None
    target: Target | None
    util: PinnedUtil | None = None

    @property
    def claim(self) -> tuple[UUID, int]:
        """Which claim this is: the request may be claimed again, under another token."""
        return self.correlation_id, self.token


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """An identifier that somebody else gave to what we did, e.g. an AWS request id."""

    type: str
    value: str
    service: str
    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The wanted state holds; `changed` says whether this request brought it about."""

    result: Json
    changed: bool
    refs: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It did not work and trying again would not help.

    `result` and `changed` tell what was done all the same, where an action has several effects.
    """

    error_class: str
    code: str
    message: str
    result: Json | None = None
    changed: bool | None = None
    refs: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A passing fault: give the request back, to be tried again.

    `after` is what the other side asked for (Retry-After), None leaves the wait to our backoff.
    """

    error_class: str
    code: str
    message: str
    after: timedelta | None = None
    refs: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """Nothing is wrong, the other side is still at work: look again `after` a while.

    The checkpoint reaches the next claim as `Lease.checkpoint`, None leaves what was kept before;
    the wait costs no attempt.
    """

    checkpoint: Json | None
    after: timedelta
    refs: tuple[Ref, ...] = ()


Outcome = Succeeded | Failed | Retry | Unfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls the API: one key of one tenant, and what it may do."""

    tenant_id: UUID
    tenant_code: str
    key_id: str
    scopes: frozenset[str]
    expires_at: datetime | None
    requests_per_minute: int | None = field(default=None)
