"""csbctl maintain: room for what comes, and an end for what need not be kept."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from typing import Final
from uuid import UUID

import click

from csb_core import retention, tenants
from csb_core.control_audit import acting
from csb_core.ctl.console import Command, Console, pass_console
from csb_core.ctl.surroundings import connection
from csb_core.db import Connection
from csb_core.models import Json

MONTHS_AHEAD: Final = 12
DUE: Final = ("tenant", "retention_days", "ended_before", "requests")
PARTITIONS: Final = ("name", "from_at", "until_at")


@click.command(cls=Command)
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=1_000,
    show_default=True,
    help="Requests that one transaction deletes at most.",
)
@pass_console
def maintain(console: Console, batch: int, dry_run: bool) -> None:  # noqa: FBT001 - a flag
    """Make the audit's partitions ahead; delete what is older than its tenant's retention.

    Run it daily; it may be repeated, and stopped, at any time.
    """
    with connection(os.environ) as conn:
        if dry_run:
            _show(console, conn)
        else:
            console.show(_maintained(conn, console.actor, batch))


def _show(console: Console, conn: Connection) -> None:
    due = [asdict(one) for one in retention.due(conn)]
    old = [asdict(one) for one in retention.partitions(conn) if one.is_due]
    if console.as_json:
        console.show({"requests": due, "partitions": old})
        return
    console.table(due, DUE)
    console.say("\nPartitions of the audit:")
    console.table(old, PARTITIONS)


def _maintained(conn: Connection, actor: str, batch: int) -> Json:
    """Make room first: whatever comes of the rest, an audit row finds its place."""
    with acting(conn, actor):
        made = retention.make_partitions(conn, months_ahead=MONTHS_AHEAD)
    deleted = _delete(conn, actor, batch)
    dropped = _drop(conn, actor)
    return {"partitions_made": made, "requests_deleted": deleted, "partitions_dropped": dropped}


def _delete(conn: Connection, actor: str, batch: int) -> dict[str, int]:
    counts: Counter[UUID] = Counter()
    while True:
        with acting(conn, actor):
            gone = retention.delete_batch(conn, most=batch)
        if not gone:
            break
        for one in gone:
            counts[one.tenant_id] += one.deleted
    codes = {one.tenant_id: one.code for one in tenants.list_all(conn)}
    return {codes[tenant_id]: count for tenant_id, count in counts.items()}


def _drop(conn: Connection, actor: str) -> list[str]:
    dropped: list[str] = []
    while True:
        with acting(conn, actor):
            name = retention.drop_partition(conn)
        if name is None:
            return dropped
        dropped.append(name)
