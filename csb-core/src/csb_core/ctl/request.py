"""csbctl request: what became of a request, and asking again for those that failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import click

from csb_core import control_audit, oversight, replays, requests, tenants
from csb_core.ctl.console import Console, Group, pass_console
from csb_core.ctl.key import Duration
from csb_core.ctl.surroundings import REDIS, database, redis
from csb_core.db import Connection
from csb_core.errors import ConfigurationError, QueueUnavailable
from csb_core.models import Draft, Message
from csb_core.oversight import Failure, Narrowing
from csb_core.queue import Queue, encode
from csb_core.requests import Accepted

F = TypeVar("F", bound=Callable[..., Any])

TRAIL = ("at", "event", "from_status", "to_status", "version", "attempt", "actor", "detail")
FAILED = ("correlation_id", "cloud_provider", "action", "account_id", "error", "finished_at")
REPLAYED = ("replay_of", "outcome", "correlation_id")


@click.group(cls=Group)
def request() -> None:
    """Requests: show one, list the failed ones, replay them."""


@request.command()
@click.argument("correlation_id", type=click.UUID)
@pass_console
def show(console: Console, correlation_id: UUID) -> None:
    """Show everything about a request, its audit trail included."""
    with database(os.environ, console.actor) as conn:
        found = oversight.find_request(conn, correlation_id)
        trail = oversight.trail_of(conn, correlation_id)
        control_audit.note_sight(conn, str(correlation_id), tenant_id=found["tenant_id"])
    if console.as_json:
        console.show({**found, "audit": trail})
        return
    console.show(found)
    console.say("\nAudit:")
    console.table(trail, TRAIL)


def _narrowing(command: F) -> F:
    """Add the options that choose among a tenant's failed requests."""
    for option in (
        click.option("--until", type=Duration(), help="Failed longer ago than this."),
        click.option("--since", type=Duration(), help="Failed within this time, like 2h."),
        click.option("--error-class", help="The error's class, like RETRIES_EXHAUSTED."),
        click.option("--account", "account_id"),
        click.option("--action"),
        click.option("--provider"),
        click.option("--tenant", "tenant_code", help="Whose requests; must be given."),
    ):
        command = option(command)
    return command


@request.command()
@_narrowing
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@pass_console
def failed(console: Console, /, limit: int, **chosen: Any) -> None:
    """List failed requests that were not replayed yet, the oldest first."""
    with database(os.environ, console.actor) as conn:
        found = _failures(conn, limit, chosen)
    console.table(map(asdict, found), FAILED)


@request.command()
@click.argument("correlation_ids", type=click.UUID, nargs=-1)
@_narrowing
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Never more than this at once; the oldest first.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_console
def replay(
    console: Console,
    /,
    correlation_ids: tuple[UUID, ...],
    limit: int,
    yes: bool,  # noqa: FBT001 - a flag
    **chosen: Any,
) -> None:
    """Ask again for failed requests, by their ids or by the options; each becomes a new request."""
    with database(os.environ, console.actor) as conn:
        failures = _chosen(conn, correlation_ids, limit, chosen)
    if not failures:
        console.table([], REPLAYED)
        return
    if not correlation_ids and not yes:
        _confirm(console, failures)

    drafts = replays.drafts_of(failures, actor=console.actor, request_id=f"csbctl-{uuid4().hex}")
    with database(os.environ, console.actor) as conn:
        answers = requests.insert(conn, drafts)
        _note(conn, drafts, answers)
    _ring(console, drafts, answers)
    pairs = zip(drafts, answers, strict=True)
    console.table([asdict(answer) | {"replay_of": d.replay_of} for d, answer in pairs], REPLAYED)


def _chosen(
    conn: Connection, ids: Sequence[UUID], limit: int, chosen: dict[str, Any]
) -> list[Failure]:
    if ids:
        if any(value is not None for value in chosen.values()):
            raise ConfigurationError("give ids or options that choose, not both")
        return [
            oversight.find_failure(conn, correlation_id) for correlation_id in dict.fromkeys(ids)
        ]
    return _failures(conn, limit, chosen)


def _failures(conn: Connection, limit: int, chosen: dict[str, Any]) -> list[Failure]:
    narrowing = _narrowed(conn, **chosen)
    control_audit.note_sight(conn, "failed requests", tenant_id=narrowing.tenant_id)
    return oversight.find_failures(conn, narrowing, limit=limit)


def _narrowed(
    conn: Connection,
    *,
    tenant_code: str | None,
    provider: str | None,
    action: str | None,
    account_id: str | None,
    error_class: str | None,
    since: timedelta | None,
    until: timedelta | None,
) -> Narrowing:
    if tenant_code is None:
        raise ConfigurationError("--tenant: name the tenant whose failed requests are meant")
    now = datetime.now(UTC)
    return Narrowing(
        tenant_id=tenants.find(conn, tenant_code).tenant_id,
        provider=provider,
        action=action,
        account_id=account_id,
        error_class=error_class,
        since=now - since if since is not None else None,
        until=now - until if until is not None else None,
    )


def _confirm(console: Console, failures: Sequence[Failure]) -> None:
    if console.as_json:
        raise ConfigurationError("--yes: must be given with --json, as nobody can be asked")
    console.table(map(asdict, failures), FAILED)
    click.confirm(f"\nReplay these {len(failures)}?", abort=True)


def _note(conn: Connection, drafts: Sequence[Draft], answers: Sequence[Accepted]) -> None:
    for draft, answer in zip(drafts, answers, strict=True):
        control_audit.note(
            conn,
            "replayed",
            subject=str(draft.replay_of),
            tenant_id=draft.tenant_id,
            detail={"outcome": answer.outcome, "correlation_id": str(answer.correlation_id)},
        )


def _ring(console: Console, drafts: Sequence[Draft], answers: Sequence[Accepted]) -> None:
    """Publish what was created; when that fails the rescuer rings, so nothing is lost."""
    by_provider: dict[str, list[bytes]] = {}
    for draft, answer in zip(drafts, answers, strict=True):
        if answer.outcome == "created" and answer.rung_at is not None:
            message = Message(
                correlation_id=draft.correlation_id,
                tenant_id=draft.tenant_id,
                attempt=0,
                published_at=answer.rung_at,
                traceparent=draft.traceparent,
                payload=draft.payload,
            )
            provider = draft.payload["cloud_provider"]
            by_provider.setdefault(provider, []).append(encode(message, draft.digest))
    try:
        with redis(os.environ) as client:
            for provider, messages in by_provider.items():
                Queue(client, provider).publish(messages)
    except (QueueUnavailable, ConfigurationError):
        console.say(f"{REDIS}: no answer; the requests wait until the rescuer rings for them")
