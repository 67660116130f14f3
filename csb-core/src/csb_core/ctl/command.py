"""The command itself: its nouns, the options that all of them share, and what becomes of errors."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import orjson

from csb_core.ctl.account import account
from csb_core.ctl.audit import audit
from csb_core.ctl.console import Console, Group
from csb_core.ctl.doctor import doctor
from csb_core.ctl.key import key
from csb_core.ctl.maintain import maintain
from csb_core.ctl.queue import queue
from csb_core.ctl.request import request
from csb_core.ctl.rotation import rotate
from csb_core.ctl.schema import schema
from csb_core.ctl.security import security
from csb_core.ctl.surroundings import settle
from csb_core.ctl.tenant import tenant
from csb_core.errors import BridgeError
from csb_core.redaction import redact


class Csbctl(Group):
    """The root of all commands: turns errors into a line, or a JSON document, and a status."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look for --json before all else: whatever is wrong with the rest is told so too."""
        ctx.ensure_object(Console).as_json = "--json" in args
        with _usage_told(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what was raised on purpose is told without a traceback."""
        try:
            with _usage_told(ctx):
                return super().invoke(ctx)
        except BridgeError as exc:
            told = redact(str(exc))
            if ctx.ensure_object(Console).as_json:
                _tell(exc.code, told, retryable=exc.retryable)
            else:
                click.echo(f"csbctl: {told}", err=True)
            ctx.exit(1)


@contextmanager
def _usage_told(ctx: click.Context) -> Iterator[None]:
    """Tell programs of a command that is written wrongly as people are told, in JSON."""
    try:
        yield
    except click.ClickException as exc:
        if not ctx.ensure_object(Console).as_json:
            raise
        _tell("usage", redact(exc.format_message()), retryable=False)
        ctx.exit(exc.exit_code)


def _tell(code: str, message: str, *, retryable: bool) -> None:
    fault = {"error": {"code": code, "message": message, "retryable": retryable}}
    click.echo(orjson.dumps(fault), err=True)


@click.group(cls=Csbctl, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--actor",
    envvar="CSB_ACTOR",
    help="Who does this, for the audit; else CSB_ACTOR, else your login and host.",
)
@click.pass_context
def main(ctx: click.Context, actor: str | None) -> None:
    """Operate CSecBridge: tenants, keys, target accounts, requests, queues.

    The database is CSB_ADMIN_DATABASE_URL, the queue CSB_REDIS_URL. When neither is set and
    .run/csb.env is there, the local platform is meant.
    """
    settle(os.environ)
    console = ctx.ensure_object(Console)
    console.actor = actor or f"{_login()}@{socket.gethostname()}"


def _login() -> str:
    """Return the login; a container's user may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


account.add_command(rotate)
for noun in (tenant, key, account, request, queue, doctor, security, audit, maintain, schema):
    main.add_command(noun)
