"""Settings from the environment, checked before anything is opened; all faults told at once."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from csb_core.errors import ConfigurationError

VERSION = "0.1.0"


def _postgres(url: SecretStr) -> SecretStr:
    return _checked(url, ("postgresql://", "postgres://"))


def _redis(url: SecretStr) -> SecretStr:
    return _checked(url, ("redis://", "rediss://", "unix://"))


def _checked(url: SecretStr, prefixes: tuple[str, ...]) -> SecretStr:
    if not url.get_secret_value().startswith(prefixes):
        raise ValueError(f"must begin with {' or '.join(prefixes)}")
    return url


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Rate = Annotated[str, Field(pattern=r"^[1-9]\d* ?/ ?([1-9]\d* ?)?(second|minute|hour|day)$")]


class Settings(BaseSettings):
    """What every service reads; variables are named CSB_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="CSB_", frozen=True, extra="ignore")

    database_url: PostgresUrl = Field(description="PostgreSQL, as this service's own role")
    redis_url: RedisUrl = Field(description="Redis or Valkey: queues, cached statuses, rate limits")
    service: str = Field("csecbridge", description="the `service` field of every log line")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="the least severe level that is written"
    )
    bind: str = Field("127.0.0.1:8000", description="address and port of the public listener")
    metrics_bind: str = Field("127.0.0.1:9090", description="address and port of /metrics")
    pool_min: int = Field(2, ge=0, le=200, description="connections a process keeps open")
    pool_max: int = Field(8, ge=1, le=200, description="connections a process may open")
    pool_timeout_seconds: Seconds = Field(3, description="wait for a free connection, at most")
    database_prepare: bool = Field(
        default=True, description="prepare statements; false behind PgBouncer before 1.22"
    )
    cache_budget_bytes: int = Field(
        268_435_456, ge=0, description="memory use of Redis above which nothing more is cached"
    )
    schema_path: str | None = Field(None, description="where schema.json lies, if not beside us")


class ApiSettings(Settings):
    """What the API service reads."""

    service: str = Field("api-service", description="the `service` field of every log line")
    api_processes: int = Field(2, ge=1, le=64, description="gunicorn worker processes")
    rate_limit_tenant: Rate = Field("600/minute", description="requests of one tenant")
    rate_limit_key: Rate = Field("300/minute", description="requests of one API key")
    max_body_bytes: int = Field(1_048_576, ge=1024, description="largest body of a POST")
    max_batch_body_bytes: int = Field(8_388_608, ge=1024, description="largest body of a batch")
    body_timeout_seconds: Seconds = Field(30, description="time for a body to come, else 408")
    max_waiters: int = Field(
        500, ge=0, le=900, description="long polls held by one process; more are answered at once"
    )
    util_validation: Literal["enforce", "advisory"] = Field(
        "enforce", description="advisory: utils that the validator refuses are stored, and may run"
    )
    util_validators: int = Field(
        2, ge=1, le=64, description="sources that a process validates at once"
    )
    util_max_code_bytes: int = Field(
        65_536, ge=1024, le=1_048_576, description="largest source of a util"
    )
    metrics_user_label: bool = Field(
        default=True, description="whether utils_created_total tells users apart"
    )


class WorkerSettings(Settings):
    """What a worker reads."""

    service: str = Field("worker", description="the `service` field of every log line")
    bind: str = Field("127.0.0.1:8001", description="address and port of /health and /ready")
    metrics_bind: str = Field("127.0.0.1:9091", description="address and port of /metrics")
    processes: int = Field(2, ge=1, le=64, description="consumer processes under one master")
    slots: int = Field(40, ge=1, le=512, description="requests that one process executes at once")
    tenant_portion: float = Field(
        0.75, gt=0, le=1, description="what a process gives of its slots to one tenant alone"
    )
    lease_seconds: Seconds = Field(7, description="how long a claim holds without a heartbeat")
    heartbeat_seconds: Seconds = Field(2, description="how often leases are extended")
    rescue_seconds: Seconds = Field(1, description="how often the rescuer passes")
    block_seconds: Seconds = Field(2, description="longest BRPOP; the socket timeout lies above it")
    grace_seconds: Seconds = Field(90, description="time to finish what is in hand at SIGTERM")

    @field_validator("heartbeat_seconds")
    @classmethod
    def _spares_one(cls, heartbeat: float, known: ValidationInfo) -> float:
        if heartbeat * 2 > known.data.get("lease_seconds", math.inf):
            raise ValueError(
                "must be at most half of CSB_LEASE_SECONDS, so that one missed loses no lease"
            )
        return heartbeat

    @property
    def lease(self) -> timedelta:
        """The lease as a timedelta."""
        return timedelta(seconds=self.lease_seconds)


S = TypeVar("S", bound=Settings)


def load(kind: type[S], **given: Any) -> S:
    """Read settings from the environment, `given` first.

    Raises ConfigurationError that names every faulty variable and what it should be.
    """
    try:
        return kind(**given)
    except ValidationError as exc:
        faults = [
            f"CSB_{'_'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
            for fault in exc.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationError("; ".join(faults)) from exc
