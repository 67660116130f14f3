"""Requests that stay in the hands of their workers until the test opens the gate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

from tests.chaos.client import REQUESTS, Asked, Client
from tests.chaos.patience import until
from tests.chaos.platform import Platform

PLAYING = "tests.chaos.playing:app"
_NUMBERS = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Who runs one request, for the how manyth time, and since when (seconds since the epoch)."""

    pid: int
    attempt: int
    since: float


@contextmanager
def closed_gate(platform: Platform) -> Iterator[None]:
    """During the block, requests for users named held-... do not end."""
    gate = platform.folder / "gate"
    gate.unlink(missing_ok=True)
    try:
        yield
    finally:
        gate.touch()


def hold(platform: Platform, client: Client, how_many: int) -> list[Asked]:
    """Ask for requests that do not end; return once each of them runs."""
    asked = [client.ask(client.new_body(f"held-{next(_NUMBERS):05}")) for _ in range(how_many)]
    keys = [one.key for one in asked]
    until(
        lambda: len(holds(platform, keys)) == how_many,
        timedelta(seconds=20),
        f"{how_many} requests run",
    )
    return asked


def holds(platform: Platform, keys: list[str]) -> dict[str, Hold]:
    """Those of the requests that run now, by key."""
    with platform.truth() as conn:
        rows = conn.execute(
            """
            SELECT r.client_request_id, r.lease_owner, r.attempt, extract(epoch FROM max(a.at))
              FROM csb_app.csb_requests r
              JOIN csb_app.csb_requests_audit a
                ON a.correlation_id = r.correlation_id
               AND a.to_status = 'IN_PROGRESS'
             WHERE r.client_request_id = ANY (%s)
               AND r.status = 'IN_PROGRESS'
             GROUP BY r.correlation_id
            """,
            (keys,),
        ).fetchall()
    return {
        key: Hold(pid=int(owner.split(":")[2]), attempt=attempt, since=float(since))
        for key, owner, attempt, since in rows
    }


def await_rerun(platform: Platform, keys: list[str], limit: timedelta) -> None:
    """Return when each of these requests runs for another time."""

    def all_run() -> bool:
        now = holds(platform, keys)
        return all(key in now and now[key].attempt > 1 for key in keys)

    until(all_run, limit, f"{len(keys)} requests run again")


def post_backlog(client: Client, how_many: int, *, arn_length: int = 0) -> None:
    """Post so many requests in batches, each with an ARN of at least this length."""
    padding = "x/" * (arn_length // 2)
    for first in range(0, how_many, 1000):
        bodies = []
        for _ in range(first, min(first + 1000, how_many)):
            body = client.new_body("backlog")
            body["parameters"]["policy_arn"] = f"arn:aws:iam::aws:policy/{padding}ReadOnlyAccess"
            bodies.append(body)
        answer = client.call("POST", f"{REQUESTS}/batch", {"requests": bodies})
        assert answer.status == 202, answer
