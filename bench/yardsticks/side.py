"""What every yardstick has in hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import redis

from bench import fleet, store
from bench.cpu import Meter
from bench.failure import BenchFailed
from bench.fleet import PROCESSES, Program
from bench.load import ROOT
from bench.servers import Servers
from bench.sizes import Sizes
from csb_core.db import Connection
from csb_core.local.ports import HOST, free_port
from csb_core.models import Draft, Json
from csb_core.requests import Accepted
from csb_core.states import Status
from csb_core.testing import make_draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The servers, the sizes, and the Python in whose environment the yardsticks live."""

    servers: Servers
    sizes: Sizes
    python: Path

    def env(self) -> dict[str, str]:
        """Where everything is, as the jobs' modules want it."""
        url = self.servers.yardsticks
        return {
            "BENCH_REDIS_URL": self.servers.redis.url,
            "BENCH_DATABASE_URL": url,
            "BENCH_RESULTS": f"db+postgresql+psycopg{url.removeprefix('postgresql')}",
            "BENCH_PROCESSES": str(PROCESSES),
            "PYTHONPATH": str(ROOT),
        }

    def spawn(self, module: str, *arguments: str, job: bytes = b"") -> subprocess.Popen[bytes]:
        """Start a jobs' module; what it prints is for `told`."""
        process = subprocess.Popen(
            [str(self.python), "-m", f"bench.jobs.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env(),
            cwd=ROOT,
        )
        assert process.stdin is not None
        process.stdin.write(job)
        process.stdin.close()
        process.stdin = None
        return process

    def serve(
        self, app: str, path: str, *, ours: bool = False, more: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Program]:
        """Serve an app of the jobs as the API is served, in the yardsticks' environment or ours."""
        port = free_port()
        env = self.env() | {"BENCH_BIND": f"{HOST}:{port}"} | dict(more or {})
        python = sys.executable if ours else str(self.python)
        argv = fleet.gunicorn(python, f"bench.jobs.{app}", "python:bench.jobs.gunicorn_conf")
        name = app.partition(":")[0].replace("_", "-")
        return fleet.program(self.servers, name, argv, env=env, up=fleet.answers(path), port=port)

    def meter(self, **programs: Program) -> Meter:
        """A meter of these programs and of the servers."""
        pids = {name: started.pid for name, started in programs.items()}
        return Meter(
            components=pids | {"redis": self.servers.redis.pid},
            postmaster=self.servers.postgres.pid,
            roles={},
        )

    def database(self) -> Connection:
        """The yardsticks' database, as its superuser."""
        return psycopg.connect(self.servers.yardsticks, autocommit=True)

    def redis(self) -> redis.Redis:
        """The run's Redis."""
        return redis.Redis.from_url(self.servers.redis.url)


def told(process: subprocess.Popen[bytes]) -> bytes:
    """What a jobs' process printed, once it has ended well; it gets two minutes."""
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired as exc:
        raise BenchFailed(f"{process.args!r} did not end") from exc
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise BenchFailed(f"a yardstick failed: {err.decode()[-1500:]}")
    return out


def job() -> bytes:
    """The same durable job for everybody: our message, as it stands in Redis."""
    return store.message(*_example())


def body() -> Json:
    """The same body of a POST for everybody."""
    return store.payload(client_request_id="bench-000000000000")


def _example() -> tuple[Draft, Accepted]:
    draft = make_draft(UUID(int=0), payload=body(), traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    moment = datetime.now(UTC)
    accepted = Accepted(
        outcome="created",
        correlation_id=draft.correlation_id,
        status=Status.PENDING,
        version=1,
        created_at=moment,
        rung_at=moment,
    )
    return draft, accepted
