"""The load generator's process: many kept-alive connections over raw sockets, one thread.

It reads a Load as JSON from standard input and writes what happened as JSON to standard output.
Requests are bytes made beforehand, answers are parsed no further than they must: a request costs
about twice what it costs wrk, a twentieth of what it costs the API. Every answer is checked.
"""

from __future__ import annotations

import gc
import heapq
import json
import random
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

#: Stands in the bytes of a request where the number or the id goes.
MARK: Final = b"@@@@@@@@@@@@"
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"Content-Length: "
_LOCATION: Final = b"Location: "
_LAST_CHANCE: Final = 5.0
_MOST_FAULTS: Final = 5


@dataclass(slots=True)
class Shot:
    """One request of an open loop, and when its answers came (seconds since it was due)."""

    due: float
    wall: float
    location: str = ""
    answered: float = 0.0
    seen: float = 0.0


@dataclass(slots=True, eq=False)
class Line:
    """One kept-alive connection, with what it is waiting for."""

    socket: socket.socket
    buffer: bytes = b""
    sent: float = 0.0
    busy: bool = False
    shot: Shot | None = None


@dataclass(slots=True)
class Generator:
    """Sends the requests of one Load and counts the answers within its window."""

    load: dict[str, Any]
    poll: select.epoll = field(default_factory=select.epoll)
    lines: dict[int, Line] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    shots: list[Shot] = field(default_factory=list)

    def closed(self) -> None:
        """As many requests at once as there are connections, each after the one before."""
        begin, end = self.load["begin"], self.load["end"]
        requests = self._requests()
        for _ in range(self.load["connections"]):
            self._send(self._connect(), next(requests))
        while (now := time.monotonic()) < end:
            for line in self._answered(end - now):
                if begin <= (done := time.monotonic()) < end:
                    self.latencies.append(done - line.sent)
                self._send(line, next(requests))
        self._finish()

    def open(self) -> None:
        """So many a second on average, whatever the answers: at random moments, as callers are."""
        requests = self._requests()
        due = list(self._moments())
        heapq.heapify(due)
        follow = self.load["follow"].encode()
        while due or any(line.busy for line in self.lines.values()):
            now = time.monotonic()
            if now > self.load["end"] + _LAST_CHANCE:
                self._fault("open loop: answers were missing when the time was over")
                return
            while due and due[0] <= now:
                self._shoot(heapq.heappop(due), next(requests))
            for line in self._answered(min(0.5, max(0.0, due[0] - now) if due else 0.5)):
                self._follow(line, follow)

    def _moments(self) -> Iterator[float]:
        chance = random.Random(self.load["first"])
        moment = self.load["start"]
        while (moment := moment + chance.expovariate(self.load["rate"])) < self.load["end"]:
            yield moment

    def _shoot(self, due: float, request: bytes) -> None:
        line = next((one for one in self.lines.values() if not one.busy), None) or self._connect()
        line.shot = Shot(due=due, wall=time.time() - (time.monotonic() - due))
        self.shots.append(line.shot)
        self._send(line, request)

    def _follow(self, line: Line, follow: bytes) -> None:
        """The first answer names the request; the second one, when asked for, tells its end."""
        shot = line.shot
        assert shot is not None
        since = time.monotonic() - shot.due
        if not shot.location:
            shot.answered = since
            shot.location = _header(line.buffer, _LOCATION)
            if follow:
                self._send(line, follow.replace(MARK, shot.location.encode()))
        else:
            shot.seen = since
            if b'"status":"SUCCESS"' not in line.buffer:
                self._fault(f"not at its end: {line.buffer[-300:]!r}")

    def _requests(self) -> Iterator[bytes]:
        template = self.load["request"].encode("latin-1")
        values = self.load["values"]
        if not values:
            number = self.load["first"]
            while True:
                yield template.replace(MARK, b"%012d" % number)
                number += 1
        ready = [template.replace(MARK, value.encode()) for value in values]
        while True:
            yield from ready
            if not self.load["again"]:
                raise SystemExit("the values ran out: give more of them")

    def _connect(self) -> Line:
        if len(self.lines) >= 512:
            raise SystemExit("more than 512 requests are open: the server does not keep up")
        made = socket.create_connection((self.load["host"], self.load["port"]), timeout=10)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.poll.register(made.fileno(), select.EPOLLIN)
        line = self.lines[made.fileno()] = Line(made)
        return line

    def _drop(self, line: Line) -> None:
        self.poll.unregister(line.socket.fileno())
        del self.lines[line.socket.fileno()]
        line.socket.close()

    def _send(self, line: Line, request: bytes) -> None:
        line.buffer, line.busy = b"", True
        line.socket.sendall(request)
        line.sent = time.monotonic()

    def _answered(self, timeout: float) -> Iterator[Line]:
        for number, _ in self.poll.poll(max(0.0, timeout)):
            line = self.lines[number]
            data = line.socket.recv(262_144)
            if not data and not line.busy:
                self._drop(line)  # it was idle for longer than the server keeps one
                continue
            if not data:
                raise SystemExit(f"the server closed a connection after {line.buffer[:200]!r}")
            line.buffer = line.buffer + data if line.buffer else data
            if _is_whole(line.buffer):
                line.busy = False
                self._check(line)
                yield line

    def _check(self, line: Line) -> None:
        status = line.buffer[9:12].decode()
        self.statuses[status] += 1
        following = line.shot is not None and line.shot.location
        wanted = "200" if following else self.load["expect"]
        if status != wanted or (not following and self.load["must"].encode() not in line.buffer):
            self._fault(line.buffer[:600].decode(errors="replace"))

    def _fault(self, text: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(text)
        else:
            self.faults[-1] = f"... and more; the last one: {text}"

    def _finish(self) -> None:
        """Hear the answers that are still on their way: those are checked as well."""
        deadline = time.monotonic() + _LAST_CHANCE
        while any(line.busy for line in self.lines.values()):
            if time.monotonic() > deadline:
                self._fault("closed loop: an answer was missing when the time was over")
                return
            for _ in self._answered(0.1):
                pass

    def result(self) -> dict[str, Any]:
        """What is told to whoever asked for this load."""
        return {
            "statuses": self.statuses,
            "faults": self.faults,
            "latencies": [round(seconds * 1e3, 3) for seconds in self.latencies],
            "shots": [
                [s.location, s.wall, s.answered, s.seen]
                for s in self.shots
                if s.due >= self.load["begin"]
            ],
        }


def _is_whole(answer: bytes) -> bool:
    head = answer.find(_HEAD_END)
    if head < 0:
        return False
    at = answer.find(_LENGTH, 0, head)
    if at < 0:
        if answer[9:12] in (b"204", b"304"):
            return True
        raise SystemExit(f"an answer without Content-Length: {answer[:300]!r}")
    at += len(_LENGTH)
    length = int(answer[at : answer.index(b"\r\n", at)])
    return len(answer) >= head + len(_HEAD_END) + length


def _header(answer: bytes, name: bytes) -> str:
    at = answer.find(name)
    if at < 0:
        return ""
    at += len(name)
    return answer[at : answer.index(b"\r\n", at)].decode()


def main() -> None:
    """Do what standard input asks for."""
    gc.disable()
    generator = Generator(json.load(sys.stdin))
    time.sleep(max(0.0, generator.load["start"] - time.monotonic()))
    if generator.load["rate"]:
        generator.open()
    else:
        generator.closed()
    json.dump(generator.result(), sys.stdout)


if __name__ == "__main__":
    main()
