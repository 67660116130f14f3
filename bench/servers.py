"""PostgreSQL and Redis of this run alone, with a platform's databases and a yardsticks' one."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
import redis
from psycopg import sql

from csb_core.local import postgres as embedded_postgres
from csb_core.local import processes
from csb_core.local import redis as embedded_redis
from csb_core.testing import (
    PASSWORD,
    ROLES,
    Database,
    database_urls,
    make_api_key,
    make_tenant,
    migrate_module,
)

#: The platform with a stock of finished requests, and the one with a long history of them.
YOUNG: Final = "csb_young"
OLD: Final = "csb_old"
YARDSTICKS: Final = "yardsticks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A migrated database with one tenant that may do everything."""

    urls: Database
    tenant_id: UUID
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where everything is, while a run lasts."""

    run: Path
    postgres: embedded_postgres.PostgresServer
    redis: embedded_redis.RedisServer
    #: The superuser's URL of the yardsticks' database.
    yardsticks: str

    def platform(self, name: str) -> Platform:
        """Make a database of the platform, with roles, schema and a tenant."""
        urls = database_urls(self.postgres.url, name)
        _create(self.postgres.url, name)
        migrate = migrate_module()
        migrate.bootstrap(
            urls.superuser, dict.fromkeys(ROLES, PASSWORD), workers=["aws", "sandbox"]
        )
        migrate.up(urls.migrator)
        tenant_id = make_tenant(urls.superuser, "bench")
        token = make_api_key(urls.superuser, tenant_id)
        return Platform(urls=urls, tenant_id=tenant_id, token=token)

    def level(self) -> None:
        """Give every measurement the same start: an empty Redis and a fresh checkpoint."""
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()
        with psycopg.connect(self.postgres.url, autocommit=True) as conn:
            conn.execute("CHECKPOINT")


@contextmanager
def running(run: Path) -> Iterator[Servers]:
    """Start both servers under `run`; at the end nothing of them runs or lies there any more."""
    run.mkdir(parents=True, exist_ok=True)
    os.environ[processes.MARKER] = str(run)
    _clear(run)
    try:
        postgres = embedded_postgres.start(run / "postgres")
        redis_server = embedded_redis.start(run / "redis")
        yield Servers(
            run=run,
            postgres=postgres,
            redis=redis_server,
            yardsticks=_create(postgres.url, YARDSTICKS),
        )
    finally:
        embedded_postgres.stop(run / "postgres", "immediate")
        embedded_redis.stop(run / "redis")
        _clear(run)


def _clear(run: Path) -> None:
    """End what this run, or one that was killed, has left; the logs stay."""
    processes.end(
        processes.marked(run),
        lambda pid: pid in processes.marked(run),
        signals=[(signal.SIGKILL, timedelta(seconds=10))],
    )
    for name in ("postgres", "redis", "metrics"):
        shutil.rmtree(run / name, ignore_errors=True)


def _create(superuser: str, name: str) -> str:
    with psycopg.connect(superuser, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return f"{superuser.rpartition('/')[0]}/{name}"
