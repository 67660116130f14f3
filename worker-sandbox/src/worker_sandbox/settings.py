"""What the sandbox worker reads from the environment, beside what every worker reads."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from csb_core.config import WorkerSettings
from csb_core.errors import ConfigurationError
from worker_sandbox.jail.plan import TierName
from worker_sandbox.sandbox_settings import SandboxSettings


class SandboxWorkerSettings(WorkerSettings):
    """A worker whose actions are users' code: few slots, each of which is a jail."""

    service: str = Field("worker-sandbox", description="the `service` field of every log line")
    bind: str = Field("127.0.0.1:8002", description="address and port of /health and /ready")
    metrics_bind: str = Field("127.0.0.1:9092", description="address and port of /metrics")
    processes: int = Field(1, ge=1, le=64, description="consumer processes under one master")
    slots: int = Field(8, ge=1, le=512, description="utils that one process executes at once")


class JailSettings(BaseSettings):
    """How jails are made, and what utils may take; variables are named CSB_SANDBOX_<FIELD>."""

    # An empty path would be the current directory, for every jail to read.
    model_config = SettingsConfigDict(
        env_prefix="CSB_SANDBOX_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    tier: Literal["auto", "namespaces", "landlock"] = Field(
        default="auto",
        description="how jails are built; auto takes the strongest tier that works here",
    )
    floor: TierName = Field(
        default="landlock", description="the weakest tier with which work is taken"
    )
    pool: int = Field(
        default=6,
        ge=1,
        le=256,
        description="jails of a process that stand ready before they are needed",
    )
    packages: Path | None = Field(
        default=None,
        description="a directory of packages that utils may declare; read-only in every jail",
    )
    python: Path | None = Field(
        default=None, description="the interpreter of the jails, if not the worker's own"
    )
    scratch: Path | None = Field(
        default=None,
        description="a folder, best a mount in memory of its own, where scripts of the tier "
        "landlock get scratch directories; none without it",
    )
    uid: int = Field(
        default=64_200,
        ge=1,
        le=2**31,
        description="whom jails run as when the worker itself is root",
    )
    max_timeout_seconds: float = Field(
        default=300,
        gt=0,
        le=3600,
        description="no util runs longer, whatever its tenant's ceiling says",
    )
    test_seconds: float = Field(
        default=600, gt=0, le=3600, description="all test cases of a util together take no longer"
    )
    cache_bytes: int = Field(
        default=67_108_864, ge=0, description="how much of utils' code a process keeps"
    )
    cache_seconds: float = Field(
        default=300, gt=0, le=86_400, description="how long a process keeps a util's code"
    )
    metric_series: int = Field(
        default=1000,
        ge=0,
        le=100_000,
        description="utils that metrics name; others are counted together",
    )

    def sandbox(self) -> SandboxSettings:
        """What the sandbox itself is told."""
        return SandboxSettings(
            tier=self.tier,
            floor=self.floor,
            pool_size=self.pool,
            uid=self.uid,
            python=self.python,
            packages=self.packages,
            scratch_root=self.scratch,
        )

    @property
    def max_timeout(self) -> timedelta:
        """The longest that a util may run."""
        return timedelta(seconds=self.max_timeout_seconds)

    @property
    def test_time(self) -> timedelta:
        """The longest that all test cases of a util may take."""
        return timedelta(seconds=self.test_seconds)


def load_jail_settings() -> JailSettings:
    """Read the settings; raises ConfigurationError that names every faulty variable."""
    try:
        settings = JailSettings()
    except ValidationError as exc:
        faults = (
            f"CSB_SANDBOX_{str(fault['loc'][0]).upper()}: {fault['msg']}"
            for fault in exc.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError("; ".join(faults)) from exc
    for name in ("packages", "python", "scratch"):
        path = getattr(settings, name)
        if path is not None and not path.exists():
            raise ConfigurationError(f"CSB_SANDBOX_{name.upper()}: there is no {path}")
    return settings
