"""What the sandbox tells operators: there are no accounts to enter, only jails to look at.

`csbctl` finds this module under the entry-point group `csb.doctors`; see csb_core.examination.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from csb_core.errors import ConfigurationError
from csb_core.examination import Finding, Verdict
from csb_core.models import Json, Target
from worker_sandbox.errors import SandboxUnavailable
from worker_sandbox.sandbox import TIERS, Sandbox, Tier
from worker_sandbox.self_test import Outcome, Tried
from worker_sandbox.settings import load_jail_settings

NO_ACCOUNTS: Final = "--provider: the sandbox acts in no account; call `csbctl doctor` without one"


def target(account_id: str, external_id: str, *, role: str) -> Target:
    """There is no way into an account; raises ConfigurationError."""
    del account_id, external_id, role
    raise ConfigurationError(NO_ACCOUNTS)


def documents(target: Target, *, principal: str | None) -> dict[str, Json]:
    """There is nothing for an account's owner to set up; raises ConfigurationError."""
    del target, principal
    raise ConfigurationError(NO_ACCOUNTS)


def trust(target: Target, *, principal: str | None, retiring: str | None = None) -> dict[str, Json]:
    """There is nobody who would have to trust us; raises ConfigurationError."""
    del target, principal, retiring
    raise ConfigurationError(NO_ACCOUNTS)


def enter(target: Target) -> Finding:
    """There is no account to enter; raises ConfigurationError."""
    del target
    raise ConfigurationError(NO_ACCOUNTS)


def examine(target: Target) -> Sequence[Finding]:
    """There is no account to examine; raises ConfigurationError."""
    del target
    raise ConfigurationError(NO_ACCOUNTS)


def examine_here() -> Sequence[Finding]:
    """Open a sandbox on this machine, as the workers do, and let it attack itself."""
    try:
        with Sandbox.open(load_jail_settings().sandbox()) as sandbox:
            report = sandbox.self_test()
            return [_tier(sandbox.tier), *map(_attack, report.tried)]
    except (SandboxUnavailable, ConfigurationError) as exc:
        return [
            Finding(
                check="open a sandbox",
                verdict="failed",
                detail=str(exc),
                remedy="see docs/sandbox.md for what a tier needs",
            )
        ]


def _tier(tier: Tier) -> Finding:
    strongest = tier.name == TIERS[0]
    return Finding(
        check="tier",
        verdict="ok" if strongest else "warning",
        detail=f"{tier.name}: {', '.join(tier.layers)}",
        remedy="" if strongest else "allow user namespaces to the worker; see docs/sandbox.md",
    )


_VERDICTS: Final[Mapping[Outcome, Verdict]] = {
    "held": "ok",
    "breached": "failed",
    "untried": "unknown",
}


def _attack(tried: Tried) -> Finding:
    return Finding(
        check=f"attack: {tried.attack}",
        verdict=_VERDICTS[tried.outcome],
        detail=f"{tried.outcome} ({tried.seen})",
        remedy="do not let this machine run utils" if tried.outcome == "breached" else "",
    )
