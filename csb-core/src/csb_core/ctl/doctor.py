"""csbctl doctor: whether we can enter an account, or else whether a provider can work here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import click

from csb_core import control_audit
from csb_core.ctl import account
from csb_core.ctl.console import Command, Console, pass_console
from csb_core.ctl.surroundings import database
from csb_core.examination import Finding, doctor_for

COLUMNS = ("verdict", "check", "detail", "remedy")


@click.command(cls=Command)
@click.argument("named", metavar="[[TENANT] ACCOUNT_ID]", nargs=-1)
@account.of_provider
@click.pass_context
@pass_console
def doctor(console: Console, ctx: click.Context, named: tuple[str, ...], provider: str) -> None:
    """Examine ACCOUNT_ID of TENANT as the workers would enter it; changes nothing there.

    TENANT is asked for only when several tenants may act in the account. Without both it looks at
    what the provider's workers need on this machine. The status is 1 when something must be mended
    before requests can work.
    """
    match named:
        case ():
            findings = doctor_for(provider).examine_here()
        case (account_id,):
            findings = _account(console, None, account_id, provider)
        case (tenant_code, account_id):
            findings = _account(console, tenant_code, account_id, provider)
        case _:
            raise click.UsageError("give no more than TENANT and ACCOUNT_ID")
    console.table(map(asdict, findings), COLUMNS)
    if any(finding.verdict == "failed" for finding in findings):
        ctx.exit(1)


def _account(
    console: Console, tenant_code: str | None, account_id: str, provider: str
) -> Sequence[Finding]:
    with database(os.environ, console.actor) as conn:
        found = (
            account.find(conn, tenant_code, account_id, provider)
            if tenant_code
            else account.find_alone(conn, account_id, provider)
        )

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
    return findings
