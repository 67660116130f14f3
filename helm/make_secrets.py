"""Make the Secrets of a quick start, with passwords of their own: nobody types one.

    python helm/make_secrets.py | kubectl create --namespace csb-app --filename -

`create`, so that a second run changes nothing. `--release` is what the release will be called. With
an external PostgreSQL or Redis say where it is (`--postgres`, `--redis`). An autoscaler asks
PostgreSQL from another namespace: with one, its host has the namespace in it. Standard library
only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

#: Login role -> the variable from which the migration runner takes its password.
ROLES: Final[Mapping[str, str]] = {
    "csb_migrator": "CSB_MIGRATOR_PASSWORD",
    "csb_api_user": "CSB_API_USER_PASSWORD",
    "csb_aws_user": "CSB_AWS_USER_PASSWORD",
    "csb_sandbox_user": "CSB_SANDBOX_USER_PASSWORD",
    "csb_admin_user": "CSB_ADMIN_USER_PASSWORD",
    "csb_backup_user": "CSB_BACKUP_USER_PASSWORD",
}

#: Secret -> the variable of its database's URL, the role in it, and whether it reaches Redis.
SERVICES: Final[Mapping[str, tuple[str, str, bool]]] = {
    "csb-api-service": ("CSB_DATABASE_URL", "csb_api_user", True),
    "csb-worker-aws": ("CSB_DATABASE_URL", "csb_aws_user", True),
    "csb-worker-sandbox": ("CSB_DATABASE_URL", "csb_sandbox_user", True),
    "csb-csbctl": ("CSB_ADMIN_DATABASE_URL", "csb_admin_user", True),
    "csb-migrator": ("CSB_MIGRATOR_DATABASE_URL", "csb_migrator", False),
}

#: What our services may do in Redis: everything that is no administration, and INFO for the budget.
REDIS_RIGHTS: Final = "~* &* +@all -@admin -@dangerous +info"


def made(
    *,
    postgres: str,
    database: str,
    redis: str | None,
    redis_host: str,
    password: Callable[[], str] = lambda: secrets.token_urlsafe(32),
) -> list[dict[str, Any]]:
    """Return the Secrets; `redis` is the URL of an external one, else the chart's is meant."""
    of_role = {role: password() for role in ROLES}
    of_redis = password()
    redis_url = redis or f"redis://csb:{of_redis}@{redis_host}:6379/0"
    found = [_secret("csb-roles", {ROLES[role]: secret for role, secret in of_role.items()})]
    for name, (variable, role, reaches_redis) in SERVICES.items():
        url = f"postgresql://{role}:{of_role[role]}@{postgres}/{database}"
        found.append(
            _secret(name, {variable: url} | ({"CSB_REDIS_URL": redis_url} if reaches_redis else {}))
        )
    found.append(_secret("csb-postgres", {"password": password()}))
    reader = {"username": "csb_backup_user", "password": of_role["csb_backup_user"]}
    found.append(_secret("csb-backup", reader))
    if redis is None:
        digest = hashlib.sha256(of_redis.encode()).hexdigest()
        users = f"user default off\nuser csb on #{digest} {REDIS_RIGHTS}\n"
        found.append(_secret("csb-redis", {"users.acl": users, "password": of_redis}))
    return found


def _secret(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "csecbridge"}},
        "type": "Opaque",
        "stringData": dict(values),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the Secrets as one list."""
    parser = argparse.ArgumentParser(description="Make the Secrets of a quick start.")
    parser.add_argument("--release", default="csecbridge", help="what the release will be called")
    parser.add_argument("--postgres", help="HOST:PORT of PostgreSQL, if not the chart's own")
    parser.add_argument("--database", default="csb")
    parser.add_argument("--redis", help="the URL of Redis, if not the chart's own")
    args = parser.parse_args(argv)
    items = made(
        postgres=args.postgres or f"{args.release}-postgres-db:5432",
        database=args.database,
        redis=args.redis,
        redis_host=f"{args.release}-redis",
    )
    json.dump({"apiVersion": "v1", "kind": "List", "items": items}, sys.stdout, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
