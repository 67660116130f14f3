"""What the AWS worker reads from the environment; credentials are found by botocore's own chain."""

from __future__ import annotations

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from csb_core.errors import ConfigurationError


class AwsSettings(BaseSettings):
    """Where AWS is, and how patient we are with it."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    region: str = Field(
        default="us-east-1",
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="the region of our own identity; STS is asked there",
    )
    endpoint_url: str | None = Field(
        default=None,
        validation_alias="AWS_ENDPOINT_URL",
        description="another AWS, e.g. the local one",
    )
    connections: int = Field(
        default=64,
        ge=1,
        le=1024,
        validation_alias="CSB_AWS_CONNECTIONS",
        description="HTTP connections kept open to each AWS endpoint",
    )
    verify_waits: tuple[float, ...] = Field(
        default=(0.0, 0.2, 0.5, 1.0, 2.0),
        validation_alias="CSB_AWS_VERIFY_WAITS",
        description="seconds before each re-read of what was written; IAM is eventually consistent",
    )


def load_aws_settings() -> AwsSettings:
    """Read the settings; raises ConfigurationError that names every faulty variable."""
    try:
        return AwsSettings()
    except ValidationError as exc:
        faults = (
            f"{fault['loc'][0]}: {fault['msg']}"
            for fault in exc.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError("; ".join(faults)) from exc
