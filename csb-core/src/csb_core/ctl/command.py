"""The command itself: its nouns, the options that all of them share, and what becomes of errors."""

from __future__ import annotations

import getpass
import os
import socket
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

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what was raised on purpose is told without a traceback."""
        try:
            return super().invoke(ctx)
        except BridgeError as exc:
            told = redact(str(exc))
            if ctx.ensure_object(Console).as_json:
                fault = {"error": {"code": exc.code, "message": told, "retryable": exc.retryable}}
                click.echo(orjson.dumps(fault), err=True)
            else:
                click.echo(f"csbctl: {told}", err=True)
            ctx.exit(1)


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
