"""csbctl audit: who changed tenants, keys and accounts, and what operators did."""

from __future__ import annotations

import os

import click

from csb_core import control_audit, tenants
from csb_core.ctl.console import Console, Group, pass_console
from csb_core.ctl.surroundings import database

COLUMNS = ("at", "actor", "event", "subject", "detail")


@click.group(cls=Group)
def audit() -> None:
    """The audit of the control plane: list."""


@audit.command("list")
@click.option("--tenant", "tenant_code", help="Of one tenant only.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@pass_console
def list_(console: Console, tenant_code: str | None, limit: int) -> None:
    """Show the last changes, the newest first."""
    with database(os.environ, console.actor) as conn:
        tenant_id = tenants.find(conn, tenant_code).tenant_id if tenant_code else None
        found = control_audit.latest(conn, tenant_id=tenant_id, limit=limit)
    console.table(found, COLUMNS)
