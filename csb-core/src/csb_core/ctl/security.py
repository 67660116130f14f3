"""csbctl security: messages that workers met and refused."""

from __future__ import annotations

import os

import click

from csb_core import oversight
from csb_core.ctl.console import Console, Group, pass_console
from csb_core.ctl.surroundings import database

COLUMNS = ("at", "event", "correlation_id", "tenant_id", "actor", "detail")


@click.group(cls=Group)
def security() -> None:
    """Security events: list."""


@security.command("list")
@click.option("--event", help="Only these, like message_forged.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@pass_console
def list_(console: Console, event: str | None, limit: int) -> None:
    """Show the last events, the newest first."""
    with database(os.environ, console.actor) as conn:
        found = oversight.security_events(conn, event=event, limit=limit)
    console.table(found, COLUMNS)
