"""What an action is made of: read, decide, apply, verify. `driver` puts them in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from csb_core.models import Json
from worker_service_aws.calls import AccountSession
from worker_service_aws.session_policy import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A write that is to be made."""

    service: str
    operation: str
    parameters: dict[str, Any]

    @property
    def document(self) -> Json:
        """As a plan shows it."""
        return {
            "service": self.service,
            "operation": self.operation,
            "parameters": self.parameters,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The writes that lead to the wanted state, and the request that would undo them."""

    calls: tuple[Call, ...]
    inverse: Json | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The other side works on it: what to ask it about later, and when."""

    token: Json
    after: timedelta


class Change(Protocol):
    """One state that somebody wants; frozen, and ignorant of leases, retries and records."""

    @property
    def reads(self) -> list[Statement]:
        """What `read` and `follow` need to be allowed."""

    @property
    def writes(self) -> list[Statement]:
        """What `apply` needs to be allowed; a dry run does not get it."""

    def read(self, aws: AccountSession) -> Json:
        """The state as it is now; raises FinalError when it must not be changed."""

    def decide(self, state: Json) -> Plan | None:
        """What is to be done about `state`; None when it is as wanted."""

    def apply(self, aws: AccountSession, plan: Plan) -> Pending | None:
        """Do it; Pending when AWS goes on by itself after answering."""


@runtime_checkable
class Followed(Protocol):
    """A change whose `apply` may give Pending."""

    def follow(self, aws: AccountSession, token: Json) -> Pending | None:
        """Ask how far it is; None when it is done. Raises FinalError when it has failed."""
