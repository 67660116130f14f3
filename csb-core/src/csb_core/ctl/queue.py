"""csbctl queue: how much work stands in the lists and in the table, and for how long."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from csb_core import oversight
from csb_core.contract import load as load_contract
from csb_core.ctl.console import Console, Group, pass_console
from csb_core.ctl.surroundings import database, redis
from csb_core.errors import BridgeError
from csb_core.oversight import Work
from csb_core.queue import Queue, Redis

COLUMNS = (
    "provider",
    "messages",
    "oldest_message_seconds",
    "due",
    "delayed",
    "in_progress",
    "oldest_due_seconds",
    "queue",
)


@click.group(cls=Group)
def queue() -> None:
    """Queues: depths."""


@queue.command()
@pass_console
def depths(console: Console) -> None:
    """Show per provider: messages in Redis, rows due, delayed and in hand, the oldest of each."""
    with database(os.environ, console.actor) as conn:
        work = {found.provider: found for found in oversight.open_work(conn)}
    providers = sorted({*load_contract().providers, *work})
    with redis(os.environ) as client:
        rows = [_row(client, provider, work.get(provider)) for provider in providers]
    console.table(rows, COLUMNS)


def _row(client: Redis, provider: str, work: Work | None) -> dict[str, Any]:
    found = work or Work(
        provider=provider, due=0, delayed=0, in_progress=0, oldest_due_seconds=None
    )
    row: dict[str, Any] = {**asdict(found), "messages": None, "oldest_message_seconds": None}
    try:
        standing = Queue(client, provider).standing()
    except BridgeError as exc:
        return row | {"queue": str(exc)}
    row["messages"] = standing.depth
    if standing.oldest is not None:
        row["oldest_message_seconds"] = (datetime.now(UTC) - standing.oldest).total_seconds()
    return row | {"queue": "up"}
