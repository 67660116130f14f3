"""Which parts of the platform are embedded and which the caller brought.

    CSB_DATABASE_URL    a PostgreSQL of yours. A user that may create roles sets up all of them; any
                        other is the API's own, and then CSB_ADMIN_DATABASE_URL,
                        CSB_AWS_DATABASE_URL, CSB_SANDBOX_DATABASE_URL and CSB_MIGRATOR_DATABASE_URL
                        name the other roles
    CSB_REDIS_URL       a Redis or Valkey of yours
    AWS_ENDPOINT_URL    something that speaks AWS, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    CSB_AWS=real        AWS itself, with whatever identity boto3 finds in the environment

Credentials of AWS alone change nothing: a shell that has some must not turn a demonstration into
changes of real accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from csb_core.errors import ConfigurationError
from csb_core.local.memory import Memory

#: The login roles, and the variables that name their URLs; the first is the API's.
ROLES: Final[Mapping[str, str]] = {
    "csb_api_user": "CSB_DATABASE_URL",
    "csb_admin_user": "CSB_ADMIN_DATABASE_URL",
    "csb_aws_user": "CSB_AWS_DATABASE_URL",
    "csb_sandbox_user": "CSB_SANDBOX_DATABASE_URL",
    "csb_migrator": "CSB_MIGRATOR_DATABASE_URL",
}

#: What csb.env gives back to the shell; read again, it must not count as the caller's own.
CHOICES: Final = (*ROLES.values(), "CSB_REDIS_URL", "AWS_ENDPOINT_URL")

#: The other names in csb.env, which tell a client where to go and as whom.
CLIENTS: Final = (
    "CSB_URL",
    "CSB_METRICS_URL",
    "CSB_TOKEN",
    "CSB_OTHER_TOKEN",
    "CSB_DEMO_ACCOUNT",
    "CSB_DEMO_USER",
)

Aws = Literal["local", "endpoint", "real"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the caller brought; None means that the part is embedded."""

    given: Mapping[str, str]
    database_urls: Mapping[str, str]
    redis_url: str | None
    aws: Aws
    aws_env: Mapping[str, str]

    @property
    def database_url(self) -> str | None:
        return self.database_urls.get("CSB_DATABASE_URL")


def choose(environ: Mapping[str, str], *, written: Mapping[str, str], memory: Memory) -> Parts:
    """Read the caller's choices from the environment; `written` is the last csb.env.

    A value that stands in csb.env means "as before", whether it was ours or the caller's.
    Raises ConfigurationError.
    """
    given = {name: _given(name, environ, written, memory) for name in CHOICES}
    database_urls = {name: value for name in ROLES.values() if (value := given[name])}
    if database_urls and "CSB_DATABASE_URL" not in database_urls:
        raise ConfigurationError(f"{', '.join(database_urls)}: CSB_DATABASE_URL is missing beside")
    for name, url in database_urls.items():
        if not url.startswith(("postgresql://", "postgres://")):
            raise ConfigurationError(f"{name}: must begin with postgresql://")
    redis_url = given["CSB_REDIS_URL"]
    if redis_url and not redis_url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError("CSB_REDIS_URL: must begin with redis://, rediss:// or unix://")
    own = {name: value for name, value in environ.items() if value != written.get(name)}
    aws = _aws(own, given["AWS_ENDPOINT_URL"])
    theirs = {k: v for k, v in own.items() if k.startswith("AWS_")}
    if given["AWS_ENDPOINT_URL"]:
        theirs["AWS_ENDPOINT_URL"] = given["AWS_ENDPOINT_URL"]
    return Parts(
        given=given,
        database_urls=database_urls,
        redis_url=redis_url or None,
        aws=aws,
        aws_env={} if aws == "local" else theirs,
    )


def remember(chosen: Parts, memory: Memory) -> None:
    """Let `chosen` be what "as before" means, now that a platform runs with it."""
    for name, value in chosen.given.items():
        memory.put(f"given.{name}", value)


def read_environment(path: Path) -> dict[str, str]:
    """The KEY=value lines of a csb.env, none when there is no such file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {key: value for key, _, value in (line.partition("=") for line in lines) if value}


def _given(
    name: str, environ: Mapping[str, str], written: Mapping[str, str], memory: Memory
) -> str:
    value = environ.get(name, "")
    return (memory.get(f"given.{name}") or "") if value == written.get(name) else value


def _aws(environ: Mapping[str, str], endpoint: str) -> Aws:
    match environ.get("CSB_AWS", ""):
        case "real" if endpoint:
            raise ConfigurationError("CSB_AWS=real goes with no AWS_ENDPOINT_URL: unset one")
        case "real":
            return "real"
        case "" | "local" if not endpoint:
            return "local"
        case "" if not (environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY")):
            raise ConfigurationError(
                "AWS_ENDPOINT_URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY with it"
            )
        case "":
            return "endpoint"
        case "local":
            raise ConfigurationError("CSB_AWS=local goes with no AWS_ENDPOINT_URL: unset one")
        case other:
            raise ConfigurationError(f"CSB_AWS={other!r}: must be local or real")
