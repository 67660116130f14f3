"""csbctl key: the API keys of a tenant."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from csb_core import api_keys, tenants
from csb_core.api_keys import SCOPES, ApiKey, Terms
from csb_core.ctl.console import Console, Group, pass_console
from csb_core.ctl.surroundings import database
from csb_core.errors import ConfigurationError

COLUMNS = ("key_id", "label", "scopes", "state", "expires_at", "last_used_at", "created_at")

#: Longer than anything here is kept; beyond, a date could not be told.
_LONGEST = timedelta(days=36_500)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[timedelta]):
    """A length of time as people write it: 90s, 30m, 12h, 7d; 0 is none."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the time that was written; fails with what would have been right."""
        if isinstance(value, timedelta):
            return value
        written = re.fullmatch(r"(\d{1,6})([smhd])|0", str(value))
        if written is None:
            self.fail(f"{value!r} is not like 90s, 30m, 12h, 7d or 0", param, ctx)
        if written[1] is None:
            return timedelta()
        length = timedelta(seconds=int(written[1]) * _UNITS[written[2]])
        if length > _LONGEST:
            self.fail(f"{value!r} is longer than {_LONGEST.days}d", param, ctx)
        return length


@click.group(cls=Group)
def key() -> None:
    """API keys: create, list, revoke, rotate."""


@key.command()
@click.argument("tenant_code", metavar="TENANT")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True)
@click.option("--label", default="", help="Who or what uses it.")
@click.option("--expires-in", type=Duration(), help="For instance 90d; never when left out.")
@click.option("--requests-per-minute", type=click.IntRange(1), help="Instead of the default limit.")
@pass_console
def create(
    console: Console,
    tenant_code: str,
    scopes: tuple[str, ...],
    label: str,
    expires_in: timedelta | None,
    requests_per_minute: int | None,
) -> None:
    """Make a key for TENANT and show its token, this once."""
    if expires_in == timedelta():
        raise ConfigurationError("--expires-in: such a key opens nothing; left out, it never ends")
    terms = Terms(
        scopes=tuple(dict.fromkeys(scopes)),
        label=label,
        expires_at=datetime.now(UTC) + expires_in if expires_in else None,
        requests_per_minute=requests_per_minute,
    )
    with database(os.environ, console.actor) as conn:
        tenant = tenants.find(conn, tenant_code)
        token, made = api_keys.create(conn, tenant.tenant_id, terms)
    _show_token(console, token, made)


@key.command("list")
@click.argument("tenant_code", metavar="TENANT")
@pass_console
def list_(console: Console, tenant_code: str) -> None:
    """Show the keys of TENANT; tokens cannot be shown again."""
    with database(os.environ, console.actor) as conn:
        found = api_keys.list_of(conn, tenants.find(conn, tenant_code).tenant_id)
    console.table(map(_shown, found), COLUMNS)


@key.command()
@click.argument("key_id")
@pass_console
def revoke(console: Console, key_id: str) -> None:
    """End a key; it opens nothing within five seconds."""
    with database(os.environ, console.actor) as conn:
        api_keys.revoke(conn, key_id)
    console.show({"key_id": key_id, "state": "revoked"})


@key.command()
@click.argument("key_id")
@click.option(
    "--overlap",
    type=Duration(),
    default=timedelta(hours=24),
    show_default="24h",
    help="How long the old key goes on working.",
)
@pass_console
def rotate(console: Console, key_id: str, overlap: timedelta) -> None:
    """Make a key like this one, show its token, and end this one after the overlap."""
    with database(os.environ, console.actor) as conn:
        token, made = api_keys.rotate(conn, key_id, overlap=overlap)
    _show_token(console, token, made)


def _show_token(console: Console, token: str, made: ApiKey) -> None:
    console.show({"token": token, **_shown(made)})
    console.say("\nKeep the token now: only a digest of it is stored.")


def _shown(found: ApiKey) -> dict[str, Any]:
    return asdict(found) | {"state": _state(found)}


def _state(found: ApiKey) -> str:
    if found.revoked_at is not None:
        return "revoked"
    if found.expires_at is not None and found.expires_at <= datetime.now(UTC):
        return "expired"
    return f"replaced by {found.replaced_by}" if found.replaced_by else "active"
