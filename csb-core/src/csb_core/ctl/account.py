"""csbctl account: where a tenant may act, and what the account's owner must set up for it."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from csb_core import accounts, control_audit, tenants
from csb_core.accounts import Account, AccountStatus
from csb_core.ctl.console import Console, Group, pass_console
from csb_core.ctl.surroundings import database
from csb_core.db import Connection
from csb_core.errors import ConfigurationError, NotFound
from csb_core.examination import doctor_for
from csb_core.models import Json

COLUMNS = ("account_id", "cloud_provider", "label", "status", "role_arn", "created_at")

in_tenant = click.argument("tenant_code", metavar="TENANT")
with_account = click.argument("account_id")
of_provider = click.option("--provider", default="aws", show_default=True)
as_principal = click.option(
    "--principal",
    envvar="CSB_PLATFORM_PRINCIPAL",
    help="The platform's own identity, which the account will trust; else the provider is asked.",
)


@click.group(cls=Group)
def account() -> None:
    """Target accounts: register, show, list, rotate, disable, enable."""


@account.command()
@in_tenant
@with_account
@of_provider
@click.option("--role", default="CSBExecutor", show_default=True, help="A role's name or ARN.")
@click.option("--label", default="", help="What people call the account.")
@as_principal
@pass_console
def register(
    console: Console,
    tenant_code: str,
    account_id: str,
    provider: str,
    role: str,
    label: str,
    principal: str | None,
) -> None:
    """Let TENANT act in ACCOUNT_ID; shows the ExternalId and the policies to paste there."""
    doctor = doctor_for(provider)
    target = doctor.target(account_id, accounts.new_external_id(), role=role)
    documents = doctor.documents(target, principal=principal)
    with database(os.environ, console.actor) as conn:
        tenant_id = tenants.find(conn, tenant_code).tenant_id
        made = accounts.register(conn, tenant_id, target, cloud_provider=provider, label=label)
    _show(console, made, documents)
    console.say(f"\nThen: csbctl doctor {tenant_code} {account_id}")


@account.command()
@in_tenant
@with_account
@of_provider
@as_principal
@pass_console
def show(
    console: Console, tenant_code: str, account_id: str, provider: str, principal: str | None
) -> None:
    """Show an account with its ExternalId and the policies to paste there."""
    with database(os.environ, console.actor) as conn:
        found = find(conn, tenant_code, account_id, provider)
        control_audit.note_sight(conn, account_id, tenant_id=found.tenant_id)
    _show(console, found, doctor_for(provider).documents(found.target, principal=principal))


@account.command("list")
@in_tenant
@pass_console
def list_(console: Console, tenant_code: str) -> None:
    """Show the accounts of TENANT."""
    with database(os.environ, console.actor) as conn:
        tenant_id = tenants.find(conn, tenant_code).tenant_id
        found = accounts.list_of(conn, tenant_id)
        control_audit.note_sight(conn, "accounts", tenant_id=tenant_id)
    console.table(map(asdict, found), COLUMNS)


@account.command()
@in_tenant
@with_account
@of_provider
@pass_console
def disable(console: Console, tenant_code: str, account_id: str, provider: str) -> None:
    """Let nobody into an account: requests are refused, those that wait will fail."""
    _set(console, (tenant_code, account_id, provider), "disabled")


@account.command()
@in_tenant
@with_account
@of_provider
@pass_console
def enable(console: Console, tenant_code: str, account_id: str, provider: str) -> None:
    """Accept requests for a disabled account again."""
    _set(console, (tenant_code, account_id, provider), "active")


def find(conn: Connection, tenant_code: str, account_id: str, provider: str) -> Account:
    """Return an account of a tenant named by its code; raises NotFound."""
    tenant_id = tenants.find(conn, tenant_code).tenant_id
    return accounts.find(conn, tenant_id, cloud_provider=provider, account_id=account_id)


def find_alone(conn: Connection, account_id: str, provider: str) -> Account:
    """Return the account that one tenant alone has; raises NotFound, ConfigurationError."""
    match accounts.list_by_id(conn, cloud_provider=provider, account_id=account_id):
        case []:
            raise NotFound(f"account {account_id} is registered for no tenant")
        case [found]:
            return found
        case several:
            owners = {one.tenant_id for one in several}
            codes = (one.code for one in tenants.list_all(conn) if one.tenant_id in owners)
            raise ConfigurationError(
                f"account {account_id} is registered for several tenants: "
                f"name one before it, {' or '.join(codes)}"
            )


def _set(console: Console, named: tuple[str, str, str], status: AccountStatus) -> None:
    with database(os.environ, console.actor) as conn:
        found = find(conn, *named)
        accounts.set_status(
            conn,
            found.tenant_id,
            cloud_provider=found.cloud_provider,
            account_id=found.account_id,
            status=status,
        )
    console.show(asdict(found) | {"status": status})


def _show(console: Console, found: Account, documents: dict[str, Json]) -> None:
    if console.as_json:
        console.show(asdict(found) | {"documents": documents})
        return
    console.show(asdict(found))
    for title, document in documents.items():
        console.document(title, document)
