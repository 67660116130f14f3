"""Asks a load generator's process for load, and measures processor time over the same window."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bench.cpu import Meter, Spent
from bench.failure import BenchFailed

ROOT: Final = Path(__file__).resolve().parents[1]
#: The generator takes this long to start and to make its requests.
_START: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send where. A closed loop has connections, an open one a rate."""

    port: int
    request: bytes
    expect: str
    warm: float
    window: float
    host: str = "127.0.0.1"
    connections: int = 0
    rate: int = 0
    #: What takes the mark's place: these, again and again if so said; else numbers from `first`.
    values: Sequence[str] = ()
    again: bool = False
    first: int = 0
    #: Must stand in each answer.
    must: str = ""
    #: Sent for each accepted request on an open loop, the mark replaced by its Location.
    follow: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One request of an open loop: when it was due, and when its answers came after that (ms)."""

    correlation_id: UUID
    wall: float
    answered_ms: float
    seen_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of a load, all of it as expected."""

    count: int
    seconds: float
    #: The window by the wall clock, for what the database has to say about it.
    began: float
    ended: float
    latencies: list[float]
    shots: list[Shot]
    before: Spent = field(default_factory=dict)
    after: Spent = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Answers in a second of the window."""
        return self.count / self.seconds


def run(load: Load, meter: Meter) -> Answered:
    """Send the load. Raises BenchFailed when any answer, also out of the window, was not right."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.generator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        return _attend(process, load, meter)
    finally:
        process.kill()
        process.wait()


def _attend(process: subprocess.Popen[bytes], load: Load, meter: Meter) -> Answered:
    start = time.monotonic() + _START
    begin = start + load.warm
    end = begin + load.window
    assert process.stdin is not None
    process.stdin.write(_order(load, start, begin, end))
    process.stdin.close()
    process.stdin = None

    time.sleep(max(0.0, begin - time.monotonic()))
    began, before = time.time(), meter.read() | {"load": _used(process.pid)}
    time.sleep(max(0.0, end - time.monotonic()))
    ended, after = time.time(), meter.read() | {"load": _used(process.pid)}

    try:
        out, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired as exc:
        raise BenchFailed("the load generator did not end") from exc
    if process.returncode != 0:
        raise BenchFailed(f"the load generator gave up: {err.decode()[-600:]}")
    told = json.loads(out)
    if told["faults"]:
        raise BenchFailed(f"answers that must not be: {told['statuses']} {told['faults'][:2]}")
    count = len(told["shots"] or told["latencies"])
    if not count:
        raise BenchFailed("nothing was answered within the window")
    return Answered(
        count=count,
        seconds=load.window,
        began=began,
        ended=ended,
        latencies=told["latencies"],
        shots=[_shot(shot) for shot in told["shots"]],
        before=before,
        after=after,
    )


def _order(load: Load, start: float, begin: float, end: float) -> bytes:
    order: dict[str, Any] = {
        name: getattr(load, name)
        for name in ("host", "port", "connections", "rate", "again", "first", "expect", "must")
    }
    order |= {"start": start, "begin": begin, "end": end, "values": list(load.values)}
    order |= {"request": load.request.decode("latin-1"), "follow": load.follow.decode()}
    return json.dumps(order).encode()


def _shot(told: list[Any]) -> Shot:
    location, wall, answered, seen = told
    return Shot(
        correlation_id=UUID(location.rpartition("/")[2]),
        wall=wall,
        answered_ms=answered * 1e3,
        seen_ms=seen * 1e3,
    )


def _used(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
