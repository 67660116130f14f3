"""csbctl tenant: who may use the platform."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from csb_core import retention, tenants, util_ceilings
from csb_core.ctl.console import Console, Group, pass_console
from csb_core.ctl.surroundings import database
from csb_core.errors import ConfigurationError
from csb_core.tenants import TenantStatus

COLUMNS = (
    "code", "name", "status", "requests_per_minute", "retention_days", "created_at", "tenant_id",
)  # fmt: skip


@click.group(cls=Group)
def tenant() -> None:
    """Tenants: create, list, suspend, resume; what is kept of them, what their utils may take."""


@tenant.command()
@click.argument("code")
@click.option("--name", help="What people call it; the code when left out.")
@click.option("--requests-per-minute", type=click.IntRange(1), help="Instead of the default limit.")
@pass_console
def create(console: Console, code: str, name: str | None, requests_per_minute: int | None) -> None:
    """Add a tenant. CODE: a-z, 0-9 and -, 2 to 31 characters, a letter first."""
    with database(os.environ, console.actor) as conn:
        made = tenants.create(
            conn, code=code, name=name or code, requests_per_minute=requests_per_minute
        )
    console.show(asdict(made))
    console.say(f"\nNext: csbctl key create {code} --label <who> --scope requests:write")


@tenant.command("list")
@pass_console
def list_(console: Console) -> None:
    """Show all tenants."""
    with database(os.environ, console.actor) as conn:
        found = tenants.list_all(conn)
    console.table(map(asdict, found), COLUMNS)


@tenant.command()
@click.argument("code")
@pass_console
def suspend(console: Console, code: str) -> None:
    """Close the platform to a tenant: within five seconds none of its keys opens anything."""
    _set(console, code, "suspended")


@tenant.command()
@click.argument("code")
@pass_console
def resume(console: Console, code: str) -> None:
    """Open the platform to a suspended tenant again."""
    _set(console, code, "active")


@tenant.command()
@click.argument("code")
@click.option("--timeout-seconds", type=click.FloatRange(0.1, 3600), help="Of one execution.")
@click.option("--memory-limit-mb", type=click.IntRange(16, 65536), help="Of one execution.")
@click.option("--cpu-limit", type=click.FloatRange(0.1, 64), help="Cores, of one execution.")
@click.option("--security-score", type=click.IntRange(0, 100), help="The least that still runs.")
@pass_console
def ceilings(console: Console, /, code: str, **wanted: float | None) -> None:
    """Show what a tenant's utils may take at most, after changing what is given.

    They bind new executions, of a tenant's own utils and of those shared with it.
    """
    with database(os.environ, console.actor) as conn:
        tenant_id = tenants.find(conn, code).tenant_id
        if any(value is not None for value in wanted.values()):
            util_ceilings.change(conn, tenant_id, wanted)
        found = util_ceilings.of(conn, tenant_id)
    console.show(asdict(found))


@tenant.command("retention")
@click.argument("code")
@click.option("--days", type=click.IntRange(1, 36_500), help="Keep what has ended so long.")
@click.option(
    "--default", "usual", is_flag=True, help="Keep it as long as the platform usually does."
)
@pass_console
def retention_(console: Console, code: str, days: int | None, usual: bool) -> None:  # noqa: FBT001
    """Show for how long a tenant's ended requests are kept, after changing it if asked to."""
    if days is not None and usual:
        raise ConfigurationError("give --days or --default, not both")
    with database(os.environ, console.actor) as conn:
        found = tenants.find(conn, code)
        if days is not None or usual:
            retention.change(conn, found.tenant_id, days)
            found = tenants.find(conn, code)
    console.show(asdict(found))


def _set(console: Console, code: str, status: TenantStatus) -> None:
    with database(os.environ, console.actor) as conn:
        tenants.set_status(conn, tenants.find(conn, code).tenant_id, status)
        found = tenants.find(conn, code)
    console.show(asdict(found))
