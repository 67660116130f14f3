"""What a measurement has in hand, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final
from uuid import UUID

import psycopg

from bench import fleet
from bench.cpu import Meter, Spent
from bench.fleet import Program
from bench.servers import Platform, Servers
from bench.sizes import Sizes
from bench.store import Store

#: Each load gets numbers of its own: no client_request_id is ever sent twice.
_numbers: Final = count(1)
_NUMBERS_EACH: Final = 10_000_000

ROLES: Final[Mapping[str, str]] = {
    "api": "csb_api_user",
    "worker": "csb_aws_user",
    "sandbox": "csb_sandbox_user",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one measurement found in one round: figures by name, processor time by component."""

    figures: Mapping[str, float]
    #: Microseconds a unit, by what was measured.
    cpu: Mapping[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The servers, one of the platform's databases, and the programs that run on it now."""

    servers: Servers
    platform: Platform
    store: Store
    sizes: Sizes
    since: UUID
    programs: dict[str, Program] = field(default_factory=dict)

    @property
    def api(self) -> Program:
        """The API, which the measurement has asked for."""
        return self.programs["api"]

    @contextmanager
    def worker(self, *, hold: float = 0) -> Iterator[Program]:
        """A worker, for the block."""
        with fleet.worker(self.servers, self.platform, hold=hold) as started:
            self.programs["worker"] = started
            try:
                yield started
            finally:
                del self.programs["worker"]

    @contextmanager
    def sandbox(self) -> Iterator[Program]:
        """A sandbox worker, for the block."""
        with fleet.sandbox(self.servers, self.platform) as started:
            self.programs["sandbox"] = started
            try:
                yield started
            finally:
                del self.programs["sandbox"]

    def meter(self) -> Meter:
        """A meter of everything that runs now."""
        pids = {name: started.pid for name, started in self.programs.items()}
        return Meter(
            components=pids | {"redis": self.servers.redis.pid},
            postmaster=self.servers.postgres.pid,
            roles=ROLES,
        )


def numbers() -> int:
    """The first of ten million numbers that nobody else gets."""
    return next(_numbers) * _NUMBERS_EACH


@contextmanager
def stage(servers: Servers, platform: Platform, sizes: Sizes, *, with_api: bool) -> Iterator[Scene]:
    """A scene whose database is afterwards as it was before; with the API, where it is needed."""
    servers.level()
    with psycopg.connect(platform.urls.superuser, autocommit=True) as conn:
        store = Store(platform=platform, conn=conn)
        scene = Scene(
            servers=servers,
            platform=platform,
            store=store,
            sizes=sizes,
            since=store.now(),
        )
        try:
            if not with_api:
                yield scene
                return
            with fleet.api(servers, platform) as started:
                scene.programs["api"] = started
                yield scene
        finally:
            store.clear(scene.since)


Measure = Callable[[Scene], Reading]
