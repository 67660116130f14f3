"""What an installation comes to, on servers of this machine: Secrets, stores, schema, services."""

from __future__ import annotations

import importlib.util
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import psycopg
from tests.chaos.service import Service
from tests.deploy.charts import HELM, of_kind, rendered
from tests.house import text

from csb_core.local import ports, postgres, processes, redis
from csb_core.testing import migrate_module

DATABASE: Final = "csb"


def program(path: Path) -> ModuleType:
    """A program of the charts as a module."""
    spec = importlib.util.spec_from_file_location(f"csb_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """Stores that run as the charts configure them, and the Secrets that open them."""

    superuser: str
    secrets: Mapping[str, Mapping[str, str]]
    redis_port: int

    def url(self, secret: str, variable: str = "CSB_DATABASE_URL") -> str:
        """A URL as a pod gets it."""
        return self.secrets[secret][variable]

    def migrate(self) -> list[str]:
        """What the pod of the migrations does: the roles as the superuser, then all migrations."""
        migrate = migrate_module()
        roles = ("migrator", "api_user", "aws_user", "sandbox_user", "admin_user", "backup_user")
        passwords = {
            f"csb_{role}": self.secrets["csb-roles"][f"CSB_{role.upper()}_PASSWORD"]
            for role in roles
        }
        migrate.bootstrap(self.superuser, passwords, workers=migrate.providers())
        applied: list[str] = migrate.up(self.url("csb-migrator", "CSB_MIGRATOR_DATABASE_URL"))
        return applied


@contextmanager
def installed(folder: Path) -> Iterator[Installed]:
    """Both stores, started with what the charts and helm/make_secrets.py give them."""
    server = postgres.start(folder / "postgres")
    redis_port = ports.free_port()
    secrets = _secrets(server.port, redis_port)
    pid = _start_redis(folder, redis_port, secrets["csb-redis"])
    try:
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE csb")
        superuser = f"{server.url.rpartition('/')[0]}/{DATABASE}"
        yield Installed(superuser=superuser, secrets=secrets, redis_port=redis_port)
    finally:
        _end(pid, f"{ports.HOST}:{redis_port}")  # as it calls itself once it listens
        server.stop("immediate")


@contextmanager
def api(stores: Installed, folder: Path) -> Iterator[Service]:
    """The API under gunicorn, with the settings of its ConfigMap and the values of its Secret."""
    maps = of_kind(rendered(preset="dev"), "ConfigMap")
    (settings,) = (m["data"] for m in maps if m["metadata"]["name"] == "csecbridge-api-service")
    service = Service(
        name="api-service",
        configuration="api_service.gunicorn_conf",
        app="api_service.wsgi:app",
        folder=folder,
        env={},
    )
    places = {
        "CSB_BIND": f"{ports.HOST}:{service.port}",
        "CSB_METRICS_BIND": f"{ports.HOST}:{service.metrics_port}",
    }
    service.env = {**settings, **stores.secrets["csb-api-service"], **places}
    service.start()
    try:
        yield service
    finally:
        _end(service.pid, "gunicorn")


def _end(pid: int, known_by: str) -> None:
    patience = timedelta(seconds=10)
    steps = ((signal.SIGTERM, patience), (signal.SIGKILL, patience))
    if processes.alive(pid):
        assert known_by in " ".join(processes.command(pid))
        processes.end([pid], lambda _: True, signals=steps)


def _secrets(postgres_port: int, redis_port: int) -> dict[str, dict[str, str]]:
    made = program(HELM / "make_secrets.py").made(
        postgres=f"{ports.HOST}:{postgres_port}",
        database=DATABASE,
        redis=None,
        redis_host=ports.HOST,
    )
    found: dict[str, dict[str, str]] = {m["metadata"]["name"]: m["stringData"] for m in made}
    for values in found.values():
        if "CSB_REDIS_URL" in values:
            values["CSB_REDIS_URL"] = values["CSB_REDIS_URL"].replace(":6379/", f":{redis_port}/")
    return found


def _start_redis(folder: Path, port: int, secret: Mapping[str, str]) -> int:
    """Start Redis with the chart's own configuration; only its places are this machine's."""
    (config,) = of_kind(rendered("redis", release="csecbridge"), "ConfigMap")
    users, data = folder / "users.acl", folder / "redis-data"
    users.write_text(secret["users.acl"])
    data.mkdir()
    said: str = config["data"]["redis.conf"]
    changes: dict[str, Any] = {"aclfile": users, "dir": data, "port": port, "bind": ports.HOST}
    for name, value in changes.items():
        said, changed = re.subn(rf"^{name} .*$", f"{name} {value}", said, flags=re.MULTILINE)
        assert changed == 1, name
    (folder / "redis.conf").write_text(said)
    log = folder / "redis.log"
    pid = processes.spawn([str(redis.binary()), str(folder / "redis.conf")], log=log)
    processes.await_start(pid, lambda: "Ready to accept connections" in text(log), log=log)
    return pid
