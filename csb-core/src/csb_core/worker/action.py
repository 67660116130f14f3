"""What a provider supplies: actions, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from csb_core.models import Json, Lease, Outcome


class Attempt(Protocol):
    """What an action may ask of the worker while it runs."""

    def require_lease(self) -> None:
        """Return if the lease is still ours, with time left; call it before each external write.

        Raises LeaseLost: the action must not touch anything any more.
        """

    def checkpoint(self, state: Json) -> None:
        """Keep `state` with the request, before an effect that a later attempt must know of.

        It reaches every later claim of this request as `Lease.checkpoint`.
        Raises LeaseLost when the request is somebody else's, StoreUnavailable when it was not kept.
        """


class Action(Protocol):
    """One thing that a provider can do.

    It is called in a thread of its own, holds no database connection, must be idempotent, and
    returns an outcome; whatever it raises is a bug and counts as a passing fault.
    """

    @property
    def deadline(self) -> timedelta:
        """The longest one attempt may take; past it the worker gives the slot up."""

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        """Bring about what the lease asks for."""
