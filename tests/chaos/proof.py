"""What must hold in the end, whatever was killed on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.rows import class_row
from tests.chaos.client import Asked
from tests.chaos.patience import until
from tests.chaos.platform import Platform

from csb_core.states import FINAL

#: What the API's 503 promises when it does not say that the outcome is unknown.
NOTHING_STORED: Final = "urn:csb:problem:store_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """A row and its audit, as the database has them; moves in the order in which they were made."""

    correlation_id: UUID
    key: str
    status: str
    version: int
    changed: bool | None
    attempt: int
    losses: int
    error: dict[str, Any] | None
    events: list[str]
    versions: list[int]
    origins: list[str | None]
    targets: list[str]
    stale: int

    def faults(self) -> list[str]:
        """Everything that no request may be."""
        ends = [target for target in self.targets if target in FINAL]
        rules = {
            f"is {self.status}": self.status in FINAL,
            f"has the ends {ends}": ends == [self.status],
            "goes on after its end": self.targets[-1] == self.status,
            f"has the versions {self.versions}, not 1 to {self.version}": self.versions
            == list(range(1, self.version + 1)),
            f"jumps: {self.origins} -> {self.targets}": self.origins == [None, *self.targets[:-1]],
            f"begins with {self.events[0]}": self.events[0] == "created"
            and set(self.events[1:]) == {"moved"},
        }
        return [fault for fault, holds in rules.items() if not holds]


def trails(platform: Platform, keys: Iterable[str] | None = None) -> dict[str, Trail]:
    """The trail of every request by its key, or of those with these keys."""
    with platform.truth() as conn, conn.cursor(row_factory=class_row(Trail)) as cur:
        cur.execute(
            """
            SELECT r.correlation_id, r.client_request_id AS key, r.status, r.version, r.changed,
                   r.attempt, r.losses, r.error, m.events, m.versions, m.origins, m.targets, m.stale
              FROM csb_app.csb_requests r
             CROSS JOIN LATERAL (
                   SELECT array_agg(a.event ORDER BY audit_id) FILTER (WHERE move) AS events,
                          array_agg(a.version ORDER BY audit_id) FILTER (WHERE move) AS versions,
                          array_agg(a.from_status ORDER BY audit_id) FILTER (WHERE move) AS origins,
                          array_agg(a.to_status ORDER BY audit_id) FILTER (WHERE move) AS targets,
                          count(*) FILTER (WHERE NOT move) AS stale
                     FROM (SELECT *, event <> 'stale_write_rejected' AS move
                             FROM csb_app.csb_requests_audit
                            WHERE correlation_id = r.correlation_id) a) m
             WHERE %(keys)s::text[] IS NULL
                OR r.client_request_id = ANY (%(keys)s)
            """,
            {"keys": None if keys is None else list(keys)},
        )
        return {trail.key: trail for trail in cur.fetchall()}


def open_requests(platform: Platform) -> int:
    """How many requests have not ended."""
    with platform.truth() as conn:
        row = conn.execute(
            "SELECT count(*) FROM csb_app.csb_requests WHERE finished_at IS NULL"
        ).fetchone()
    assert row is not None
    return int(row[0])


def await_ends(platform: Platform, limit: timedelta) -> None:
    """Return when no request is open any more."""
    until(
        lambda: open_requests(platform) == 0,
        limit,
        f"every request ends; {open_requests(platform)} are open",
        every=timedelta(seconds=0.2),
    )


def security_events(platform: Platform) -> list[str]:
    """What workers have refused as forged or unknown; nobody here sends such messages."""
    with platform.truth() as conn:
        return [row[0] for row in conn.execute("SELECT event FROM csb_app.csb_security_events")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where everything went that was asked; printed by the tests, asserted by `close`."""

    accepted: int
    refused: int
    unanswered: int
    stored_unanswered: int
    attempts: Counter[int]
    rescued: int
    stale: int


def close(platform: Platform, asked: Sequence[Asked], *, limit: timedelta) -> Account:
    """Wait for the end of everything, then call each request to account; raises AssertionError."""
    await_ends(platform, limit)
    known = trails(platform, [one.key for one in asked])
    unaccounted = [
        f"{one.key}: {fault}" for one in asked for fault in _faults(one, known.get(one.key))
    ]
    assert not unaccounted, f"{len(unaccounted)} of {len(asked)}: {unaccounted[:10]}"
    assert security_events(platform) == [], "a message came before its row, or was not ours"

    silent = [one for one in asked if one.answer.status is None]
    return Account(
        accepted=sum(one.is_accepted for one in asked),
        refused=sum(one.answer.status == 503 for one in asked),
        unanswered=len(silent),
        stored_unanswered=sum(one.key in known for one in silent),
        attempts=Counter(trail.attempt for trail in known.values()),
        rescued=sum(trail.losses > 0 for trail in known.values()),
        stale=sum(trail.stale for trail in known.values()),
    )


def _faults(asked: Asked, trail: Trail | None) -> list[str]:
    """What is wrong with one request, given what its caller was told."""
    answer = asked.answer
    if answer.status not in (None, 200, 202, 503):
        return [f"was answered {answer.status} {answer.document}"]
    if answer.status == 503 and "Retry-After" not in answer.headers:
        return ["was answered 503 without Retry-After"]
    if trail is None:
        return ["was accepted and is lost"] if asked.is_accepted else []

    faults = trail.faults()
    if answer.status == 503 and answer.document["type"] == NOTHING_STORED:
        faults.append("is stored, and the API said that it is not")
    named = (answer.document or {}).get("correlation_id", str(trail.correlation_id))
    if named != str(trail.correlation_id):
        faults.append(f"was told to be {named}, and is {trail.correlation_id}")
    if trail.status != "SUCCESS" or trail.changed is not True:
        faults.append(f"is {trail.status}, changed: {trail.changed}, {trail.error}")
    return faults


def require_effects(platform: Platform, asked: Sequence[Asked]) -> None:
    """What is stored is in effect in AWS, once; what is not stored is not; raises AssertionError.

    Every request has a pair of user and policy of its own, and its id names its AWS session.
    """
    log = platform.aws("GET", "log", operation="AttachUserPolicy", effect="True")["entries"]
    made = Counter((one["subject"], one["policy_arn"]) for one in log)
    sessions = {(one["subject"], one["policy_arn"]): one["session"] for one in log}
    known = trails(platform, [one.key for one in asked])
    wrong = []
    for one in asked:
        pair = (one.body["principal"]["name"], one.body["parameters"]["policy_arn"])
        trail = known.get(one.key)
        if made[pair] != (trail is not None):
            wrong.append(f"{one.key}: {made[pair]} effects")
        elif trail is not None and sessions[pair] != f"csb-{trail.correlation_id}":
            wrong.append(f"{one.key}: its effect is {sessions[pair]}'s")
    assert not wrong, f"{len(wrong)} of {len(asked)}: {wrong[:10]}"
