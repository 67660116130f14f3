"""What a provider tells operators: how a target account is opened, and whether things are well.

A provider's package offers a module with the functions of `Doctor` under the entry-point group
`csb.doctors`, named as the provider; so the core need not know any provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final, Literal, Protocol, cast

from csb_core.errors import NotFound
from csb_core.models import Json, Target

GROUP: Final = "csb.doctors"

Verdict = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do about it."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""


class Doctor(Protocol):
    """What a provider offers to operators."""

    def target(self, account_id: str, external_id: str, *, role: str) -> Target:
        """Return the way into an account; `role` is a name or what the provider calls one.

        Raises ConfigurationError that names the field and its remedy.
        """

    def documents(self, target: Target, *, principal: str | None) -> dict[str, Json]:
        """Return what the account's owner must set up, by title; `principal` is who we are there.

        Raises ConfigurationError when the principal was not given and cannot be found out.
        """

    def trust(
        self, target: Target, *, principal: str | None, retiring: str | None = None
    ) -> dict[str, Json]:
        """Return the part of `documents` that lets us in; it may accept a second ExternalId.

        Raises ConfigurationError as `documents` does.
        """

    def enter(self, target: Target) -> Finding:
        """Try the way in, and nothing else."""

    def examine(self, target: Target) -> Sequence[Finding]:
        """Try the way in, and say what may be done there; never changes anything."""

    def examine_here(self) -> Sequence[Finding]:
        """Look at what the provider's workers need on this machine, whatever the account."""


def doctor_for(provider: str) -> Doctor:
    """Return the provider's doctor; raises NotFound when its package is not installed here."""
    for entry in entry_points(group=GROUP, name=provider):
        return cast("Doctor", entry.load())
    known = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP))) or "none"
    raise NotFound(
        f"provider: nothing here knows {provider!r}; install its worker package (known: {known})"
    )
