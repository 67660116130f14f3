"""The whole platform in real processes: API, workers, PostgreSQL, Redis and the local AWS."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import psycopg
from redis import Redis
from tests.chaos.client import Client, new_pairs
from tests.chaos.patience import until
from tests.chaos.service import IMPORTS, Service, kill
from tests.chaos.striking import FOLDER as ORDERS
from tests.chaos.striking import Orders

from csb_core.local import ports, processes
from csb_core.local import postgres as embedded_postgres
from csb_core.local import redis as embedded_redis
from csb_core.local.local_aws import MODULE
from csb_core.queue import Queue
from csb_core.testing import ACCOUNT, Database, make_api_key, make_tenant
from worker_service_aws.local_aws.demo_seed import PLATFORM_KEY_ID, PLATFORM_SECRET, demo_seed

#: Short times, so that a lost worker is missed soon; the tests of recovery keep the defaults.
BRISK: Mapping[str, str] = {
    "CSB_LEASE_SECONDS": "2",
    "CSB_HEARTBEAT_SECONDS": "0.5",
    "CSB_RESCUE_SECONDS": "0.3",
    "CSB_BLOCK_SECONDS": "1",
    "CSB_AWS_VERIFY_WAITS": "[0, 0.1, 0.3]",
}


@dataclass(slots=True, kw_only=True)
class Platform:
    """One running platform of one tenant; everything of it carries the folder as its mark."""

    folder: Path
    postgres: embedded_postgres.PostgresServer
    redis: embedded_redis.RedisServer
    database: Database
    tenant_id: UUID
    token: str
    aws_url: str
    services: dict[str, Service] = field(default_factory=dict)
    pairs: Iterator[tuple[str, str]] = field(default_factory=new_pairs)

    @property
    def api(self) -> Service:
        """The API's gunicorn."""
        return self.services["api"]

    @property
    def orders(self) -> Orders:
        """Where blows are ordered."""
        return Orders(self.folder / "orders")

    def client(self) -> Client:
        """A caller who begins with a clean sheet."""
        return Client(port=self.api.port, token=self.token, account=ACCOUNT, pairs=self.pairs)

    def add_api(self, processes: int = 2) -> Service:
        """Start an API."""
        env = {
            "CSB_DATABASE_URL": self.database.api,
            "CSB_REDIS_URL": self.redis.url,
            "CSB_API_PROCESSES": str(processes),
            "CSB_RATE_LIMIT_TENANT": "1000000/minute",
            "CSB_RATE_LIMIT_KEY": "1000000/minute",
        }
        return self._add("api", "tests.chaos.api_conf", "api_service.wsgi:app", env)

    def add_worker(
        self, name: str = "worker", *, app: str = "worker_service_aws.main:app", **more: str
    ) -> Service:
        """Start a worker; `more` are settings of the environment."""
        env = {
            "CSB_DATABASE_URL": self.database.aws,
            "CSB_REDIS_URL": self.redis.url,
            "CHAOS_PLAY": str(self.folder),
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": PLATFORM_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": PLATFORM_SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **more,
        }
        return self._add(name, "tests.chaos.worker_conf", app, env)

    def _add(self, name: str, configuration: str, app: str, env: Mapping[str, str]) -> Service:
        service = Service(
            name=name,
            configuration=configuration,
            app=app,
            folder=self.folder,
            env={**env, ORDERS: str(self.orders.folder)},
        )
        self.services[name] = service
        service.start()
        return service

    def await_ready(self) -> None:
        """Return when every service is ready."""
        for service in self.services.values():
            service.await_ready()

    @contextmanager
    def truth(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection that sees everything, for what no role of ours may see."""
        with psycopg.connect(self.database.superuser, autocommit=True) as conn:
            yield conn

    @contextmanager
    def bell(self) -> Iterator[Redis]:
        """A connection to Redis."""
        with Redis.from_url(self.redis.url) as client:
            yield client

    def depth(self) -> int:
        """How many messages stand."""
        with self.bell() as client:
            return Queue(client, "aws").depth()

    def aws(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """Speak with the control of the local AWS."""
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.aws_url}/_csb/{path}?{urlencode(query)}"
        request = urllib.request.Request(url, data, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def restart_postgres(self, mode: embedded_postgres.Mode, *, pause: float = 0) -> None:
        """End PostgreSQL, wait, and bring it up again at the same place."""
        port = self.postgres.port
        self.postgres.stop(mode)
        time.sleep(pause)
        self.postgres = embedded_postgres.start(self.postgres.directory, port=port)

    def stop_redis(self) -> None:
        """Kill Redis; what it held is gone."""
        kill(self.redis.pid)
        until(lambda: not processes.alive(self.redis.pid), timedelta(seconds=5), "Redis is gone")

    def start_redis(self) -> None:
        """Bring up an empty Redis where the last one was."""
        self.redis = embedded_redis.start(
            self.redis.directory, port=self.redis.port, appendonly=False
        )

    def end(self) -> None:
        """End every process of this platform, stopped ones too, and make sure."""
        for service in self.services.values():
            if service.is_alive():
                kill(service.pid)
        processes.end(
            processes.marked(self.folder),
            lambda _: True,
            signals=[(signal.SIGKILL, timedelta(seconds=10))],
        )
        self.redis.stop()
        assert processes.marked(self.folder) == []


def build(
    folder: Path, postgres: embedded_postgres.PostgresServer, database: Database, *, users: int
) -> Platform:
    """Lay the ground of a platform: Redis, AWS with `users` people, a tenant; no service yet."""
    for name in ("orders", "metrics"):
        (folder / name).mkdir()
    tenant_id = make_tenant(database.admin)
    platform = Platform(
        folder=folder,
        postgres=postgres,
        redis=embedded_redis.start(folder / "redis", appendonly=False),
        database=database,
        tenant_id=tenant_id,
        token=make_api_key(database.admin, tenant_id),
        aws_url="",
    )
    if users:
        platform.aws_url = _start_aws(platform, users)
    return platform


def _start_aws(platform: Platform, users: int) -> str:
    seed = platform.folder / "seed.json"
    external_ids = {ACCOUNT: f"csb-{platform.tenant_id.hex}"}
    seed.write_text(json.dumps(demo_seed(external_ids, extra_users=users)))
    port = ports.free_port()
    log = platform.folder / "aws.log"
    pid = processes.spawn(
        [sys.executable, "-m", MODULE, "--port", str(port), "--seed", str(seed)],
        log=log,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": IMPORTS,
            processes.MARKER: str(platform.folder),
        },
    )
    processes.await_start(pid, lambda: b"ready" in log.read_bytes(), log=log)
    return f"http://{ports.HOST}:{port}"
