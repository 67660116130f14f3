"""csbctl schema: whether a service finds the schema that it works with."""

from __future__ import annotations

import os
import time
from typing import Final

import click
import psycopg

from csb_core import schema_version
from csb_core.ctl.console import Console, Group, pass_console
from csb_core.ctl.surroundings import database_url
from csb_core.errors import StoreUnavailable
from csb_core.schema_version import NEEDED

DATABASE: Final = "CSB_DATABASE_URL"
PAUSE_SECONDS: Final = 1.0


@click.group(cls=Group)
def schema() -> None:
    """The schema, as a service's own role sees it."""


@schema.command()
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    help="Seconds to wait, at most.",
)
@pass_console
def wait(console: Console, seconds: float) -> None:
    """Wait until the database of CSB_DATABASE_URL has the schema that this version needs.

    A newer one will do: migrations leave what the code before them works with.
    """
    url = database_url(os.environ, DATABASE)
    until = time.monotonic() + seconds
    while True:
        found, lack = _look(url)
        if not lack:
            console.show({"needed": NEEDED, "applied": found})
            return
        if time.monotonic() >= until:
            raise StoreUnavailable(f"after {seconds:g} s {lack}")
        time.sleep(PAUSE_SECONDS)


def _look(url: str) -> tuple[int, str]:
    """Return what is applied, and what is lacking: nothing when that suffices."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
            found = schema_version.applied(conn)
    except psycopg.OperationalError as exc:
        return 0, f"{DATABASE}: the database did not answer: {exc}"
    lack = f"the schema is at {found}, and {NEEDED} is needed: has `migrate.py up` run?"
    return found, "" if found >= NEEDED else lack
