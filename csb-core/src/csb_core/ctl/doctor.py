"""csbctl doctor: whether we can enter an account, and what we may do there."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict

import click

from csb_core import control_audit
from csb_core.ctl import account
from csb_core.ctl.console import Command, Console, pass_console
from csb_core.ctl.surroundings import database
from csb_core.examination import doctor_for

COLUMNS = ("verdict", "check", "detail", "remedy")


@click.command(cls=Command)
@account.in_tenant
@account.with_account
@account.of_provider
@click.pass_context
@pass_console
def doctor(
    console: Console, ctx: click.Context, tenant_code: str, account_id: str, provider: str
) -> None:
    """Examine ACCOUNT_ID of TENANT as the workers would enter it; changes nothing there.

    The status is 1 when something must be mended before requests can work.
    """
    with database(os.environ, console.actor) as conn:
        found = account.find(conn, tenant_code, account_id, provider)

    findings = doctor_for(provider).examine(found.target)  # nothing is held while AWS is asked

    verdicts = Counter(finding.verdict for finding in findings)
    with database(os.environ, console.actor) as conn:
        control_audit.note(
            conn,
            "examined",
            subject=account_id,
            tenant_id=found.tenant_id,
            detail={"provider": provider, "verdicts": dict(verdicts)},
        )
    console.table(map(asdict, findings), COLUMNS)
    if verdicts["failed"]:
        ctx.exit(1)
