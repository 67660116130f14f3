"""csbctl account rotate: another ExternalId for an account, with no moment in which none opens it.

The owner's trust policy accepts both for a while. Workers use the old one until the new one was
tried; only then the registration changes. The new one is shown once: what was begun is known by
its digest in the audit, so that nobody can have an ExternalId of their own choice put in.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Final

import click

from csb_core import accounts, control_audit
from csb_core.accounts import Account
from csb_core.ctl.account import as_principal, find, in_tenant, of_provider, with_account
from csb_core.ctl.console import Command, Console, pass_console
from csb_core.ctl.surroundings import database
from csb_core.db import Connection
from csb_core.errors import Conflict
from csb_core.examination import doctor_for
from csb_core.models import Json

BEGUN: Final = "rotation_begun"
FINISHED: Final = "rotation_finished"

#: Longer than any attempt, and whatever one worker holds before it, goes on with the old one.
OVERLAP_MINUTES: Final = 10


@click.command(cls=Command)
@in_tenant
@with_account
@of_provider
@as_principal
@click.option(
    "--finish",
    "fresh",
    metavar="NEW_EXTERNAL_ID",
    help="The owner has pasted the policy with both: try the new one, and use it from now on.",
)
@pass_console
def rotate(
    console: Console,
    tenant_code: str,
    account_id: str,
    provider: str,
    principal: str | None,
    fresh: str | None,
) -> None:
    """Give ACCOUNT_ID of TENANT another ExternalId, in two steps and without a gap.

    The first shows a trust policy that accepts the old and the new one; the second, with --finish,
    enters by the new one as the workers would, and shows the policy that accepts it alone.
    """
    named = (tenant_code, account_id, provider)
    if fresh is None:
        _begin(console, named, principal)
    else:
        _finish(console, named, principal, fresh)


def _begin(console: Console, named: tuple[str, str, str], principal: str | None) -> None:
    fresh = accounts.new_external_id()
    with database(os.environ, console.actor) as conn:
        found = find(conn, *named)

    documents = doctor_for(found.cloud_provider).trust(
        replace(found.target, external_id=fresh), principal=principal, retiring=found.external_id
    )

    with database(os.environ, console.actor) as conn:
        _note(conn, found, BEGUN, fresh)
    _show(console, found, {"new_external_id": fresh}, documents)
    console.say(
        "\nWorkers go on with the old one. When the account's owner has pasted this policy:\n"
        f"csbctl account rotate {named[0]} {found.account_id} --finish {fresh}"
    )


def _finish(
    console: Console, named: tuple[str, str, str], principal: str | None, fresh: str
) -> None:
    with database(os.environ, console.actor) as conn:
        found = find(conn, *named)
        _require_begun(conn, found, fresh)

    doctor = doctor_for(found.cloud_provider)
    target = replace(found.target, external_id=fresh)
    documents = doctor.trust(target, principal=principal)
    if found.external_id != fresh:
        entry = doctor.enter(target)  # nothing is held while the provider is asked
        if entry.verdict != "ok":
            raise Conflict(
                f"the old ExternalId stays, as the new one does not open the account: "
                f"{entry.detail}; has its owner pasted the trust policy with both, a minute ago?"
            )
        with database(os.environ, console.actor) as conn:
            accounts.replace_external_id(conn, found, fresh)
            _note(conn, found, FINISHED, fresh)

    _show(console, replace(found, external_id=fresh), {}, documents)
    console.say(
        f"\nWorkers use it from now on. After {OVERLAP_MINUTES} minutes, when attempts under way "
        "have ended, the account's\nowner pastes this policy, and the old one opens nothing. Then: "
        f"csbctl doctor {named[0]} {found.account_id}"
    )


def _require_begun(conn: Connection, found: Account, fresh: str) -> None:
    """Return if `fresh` was made by the account's last `rotate`; raises Conflict if not."""
    begun = control_audit.last_note(
        conn,
        BEGUN,
        subject=found.account_id,
        tenant_id=found.tenant_id,
        detail={"provider": found.cloud_provider},
    )
    if begun is None or begun["external_id_sha256"] != _digest(fresh):
        raise Conflict(
            "--finish: not the ExternalId that the account's last `csbctl account rotate` made; "
            "begin again without --finish"
        )


def _note(conn: Connection, found: Account, event: str, fresh: str) -> None:
    control_audit.note(
        conn,
        event,
        subject=found.account_id,
        tenant_id=found.tenant_id,
        detail={"provider": found.cloud_provider, "external_id_sha256": _digest(fresh)},
    )


def _digest(external_id: str) -> str:
    return sha256(external_id.encode()).hexdigest()


def _show(console: Console, found: Account, more: Json, documents: dict[str, Json]) -> None:
    if console.as_json:
        console.show({**asdict(found), **more, "documents": documents})
        return
    console.show({**asdict(found), **more})
    for title, document in documents.items():
        console.document(title, document)
