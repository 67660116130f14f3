"""Which programs make up the platform, and what each is told."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from csb_core.local import postgres, redis
from csb_core.local.layout import Layout
from csb_core.local.local_aws import MODULE, LocalAws
from csb_core.local.memory import Memory
from csb_core.local.parts import CHOICES, CLIENTS, Parts
from csb_core.local.ports import HOST
from csb_core.local.processes import MARKER
from csb_core.local.programs import Program
from csb_core.local.supervisor import Ending

#: Every program that there may be, in the order in which they start; they end in reverse. A worker
#: may take its grace period to finish what is in hand.
ENDINGS: Final[Mapping[str, Ending]] = {
    "postgres": Ending(signal="INT", seconds=30),
    "redis": Ending(seconds=15),
    "local-aws": Ending(seconds=5),
    "api": Ending(seconds=45),
    "worker-aws": Ending(seconds=100),
    "worker-sandbox": Ending(seconds=100),
}

#: The ports of a platform: name -> the variable that sets it.
PORTS: Final[Mapping[str, str]] = {
    "postgres": "CSB_PG_PORT",
    "redis": "CSB_REDIS_PORT",
    "local-aws": "CSB_AWS_PORT",
    "api": "CSB_PORT",
    "api-metrics": "CSB_METRICS_PORT",
    "worker-aws": "CSB_WORKER_AWS_PORT",
    "worker-aws-metrics": "CSB_WORKER_AWS_METRICS_PORT",
    "worker-sandbox": "CSB_WORKER_SANDBOX_PORT",
    "worker-sandbox-metrics": "CSB_WORKER_SANDBOX_METRICS_PORT",
    "supervisor": "CSB_SUPERVISOR_PORT",
}

#: High enough for a load test; a limit that the caller sets goes before.
LIMITS: Final[Mapping[str, str]] = {
    "CSB_RATE_LIMIT_TENANT": "6000000/minute",
    "CSB_RATE_LIMIT_KEY": "6000000/minute",
}

#: Names that are ours to give, or that csb.env gives back to the shell: no program gets them on.
OWN: Final = frozenset({*CHOICES, *PORTS.values(), "CSB_RUN_DIR", "CSB_AWS", *CLIENTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Builds the programs of one platform from what is chosen and remembered."""

    layout: Layout
    parts: Parts
    ports: Mapping[str, int]
    environ: Mapping[str, str]

    def postgres(self) -> Program:
        """The embedded PostgreSQL; its cluster is made on the way."""
        port = self.ports["postgres"]
        return Program(
            name="postgres",
            argv=postgres.prepare(self.layout.postgres, port=port),
            port=port,
            ready="postgres",
            env=self._mark(),
        )

    def redis(self) -> Program:
        """The embedded Redis."""
        port = self.ports["redis"]
        return Program(
            name="redis",
            argv=redis.prepare(self.layout.redis, port=port),
            port=port,
            env=self._mark(),
        )

    def local_aws(self, local: LocalAws) -> Program:
        """The AWS that is none."""
        port = self.ports["local-aws"]
        return Program(
            name="local-aws",
            argv=(sys.executable, "-m", MODULE, "--port", str(port), "--seed", str(local.seed)),
            port=port,
            ready="/_csb/health",
            env=self._mark(),
        )

    def api(self, database_url: str, redis_url: str) -> Program:
        """The public API under gunicorn."""
        bind, metrics = self.ports["api"], self.ports["api-metrics"]
        service = self._service("api-service", bind, metrics, database_url, redis_url)
        return Program(
            name="api",
            argv=_gunicorn("api_service.gunicorn_conf", "api_service.wsgi:app"),
            port=bind,
            ready="/ready",
            env={**LIMITS, **service},
        )

    def worker_aws(self, database_url: str, redis_url: str, local: LocalAws | None) -> Program:
        """The AWS worker under gunicorn, with its identity: the local one or the caller's."""
        bind, metrics = self.ports["worker-aws"], self.ports["worker-aws-metrics"]
        service = self._service("worker-service-aws", bind, metrics, database_url, redis_url)
        identity = local.identity(self.aws_endpoint() or "") if local else self.parts.aws_env
        return Program(
            name="worker-aws",
            argv=_gunicorn("worker_service_aws.gunicorn_conf", "worker_service_aws.main:app"),
            port=bind,
            ready="/ready",
            env={**service, **identity},
        )

    def worker_sandbox(self, database_url: str, redis_url: str) -> Program:
        """The sandbox worker under gunicorn; of secrets it gets the two URLs and nothing else."""
        bind, metrics = self.ports["worker-sandbox"], self.ports["worker-sandbox-metrics"]
        service = self._service("worker-sandbox", bind, metrics, database_url, redis_url)
        packages = self.layout.packages
        known = {"CSB_SANDBOX_PACKAGES": str(packages)} if packages.is_dir() else {}
        return Program(
            name="worker-sandbox",
            argv=_gunicorn("worker_sandbox.gunicorn_conf", "worker_sandbox.main:app"),
            port=bind,
            ready="/ready",
            env={**known, **service},
        )

    def aws_endpoint(self) -> str | None:
        """Where the worker's AWS is, None for AWS itself."""
        if self.parts.aws == "local":
            return f"http://{HOST}:{self.ports['local-aws']}"
        return self.parts.aws_env.get("AWS_ENDPOINT_URL")

    def _service(
        self, service: str, bind: int, metrics: int, database_url: str, redis_url: str
    ) -> dict[str, str]:
        tuning = {k: v for k, v in self.environ.items() if k.startswith("CSB_") and k not in OWN}
        return {
            **tuning,
            **self._mark(),
            "CSB_SERVICE": service,
            "CSB_BIND": f"{HOST}:{bind}",
            "CSB_METRICS_BIND": f"{HOST}:{metrics}",
            "CSB_DATABASE_URL": database_url,
            "CSB_REDIS_URL": redis_url,
            "PROMETHEUS_MULTIPROC_DIR": str(self.layout.run / "metrics"),
        }

    def _mark(self) -> dict[str, str]:
        return {MARKER: str(self.layout.run)}


def choose_ports(
    memory: Memory, environ: Mapping[str, str], *, running: frozenset[str]
) -> dict[str, int]:
    """A port of its own for everything; a running program may keep the one it has."""
    chosen: dict[str, int] = {}
    # Those that the caller set come first: what is only remembered gives way to them.
    for name, variable in sorted(PORTS.items(), key=lambda port: not environ.get(port[1])):
        held = name.removesuffix("-metrics") in running
        chosen[name] = memory.port(name, variable, environ, held=held, others=chosen.values())
    for name, port in chosen.items():
        memory.put(f"port.{name}", str(port))
    return chosen


def _gunicorn(configuration: str, app: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "gunicorn", "-c", f"python:{configuration}", app)
