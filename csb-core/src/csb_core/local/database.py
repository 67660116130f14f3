"""The platform's database: made, given its roles, and brought to the newest schema."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from csb_core.errors import BridgeError, ConfigurationError
from csb_core.local.memory import Memory
from csb_core.local.parts import ROLES

DATABASE: Final = "csb"


class NotMigrated(BridgeError):
    """The migration runner refused; the text is what it said."""

    code = "not_migrated"


def create(superuser_url: str) -> str:
    """Make the platform's database if it is not there; return the superuser's URL of it."""
    query = "SELECT 1 FROM pg_database WHERE datname = %s"
    try:
        with psycopg.connect(superuser_url, autocommit=True) as conn:
            if conn.execute(query, (DATABASE,)).fetchone() is None:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.Error as exc:
        raise NotMigrated(f"the database {DATABASE} could not be made: {exc}") from exc
    return urlsplit(superuser_url)._replace(path=f"/{DATABASE}").geturl()


def role_urls(given: Mapping[str, str], memory: Memory, *, root: Path) -> dict[str, str]:
    """The URL of each role by the variable that names it, with the roles in place.

    Raises ConfigurationError when the given user may not make roles and URLs are missing.
    """
    url = given["CSB_DATABASE_URL"]
    if _may_create_roles(url):
        passwords = {role: memory.secret(f"password.{role}") for role in ROLES}
        variables = {f"{role.upper()}_PASSWORD": secret for role, secret in passwords.items()}
        _migrate(root, "bootstrap", url, variables)
        return {ROLES[role]: _logged_in(url, role, secret) for role, secret in passwords.items()}

    missing = [name for name in ROLES.values() if name not in given]
    if missing:
        raise ConfigurationError(
            f"CSB_DATABASE_URL: its user may not create roles, so these must be set too: "
            f"{', '.join(missing)}"
        )
    return {name: given[name] for name in ROLES.values()}


def migrate(migrator_url: str, *, root: Path) -> None:
    """Apply every migration that is missing. Raises NotMigrated."""
    _migrate(root, "up", migrator_url, {})


def _may_create_roles(url: str) -> bool:
    query = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    try:
        with psycopg.connect(url, connect_timeout=10) as conn:
            row = conn.execute(query).fetchone()
    except psycopg.OperationalError as exc:
        raise ConfigurationError(f"CSB_DATABASE_URL: no connection: {exc}") from exc
    return bool(row and row[0])


def _logged_in(url: str, role: str, password: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role}:{quote(password, safe='')}@{place}").geturl()


def _migrate(root: Path, command: str, url: str, variables: Mapping[str, str]) -> None:
    """Run db/migrate.py; secrets go by the environment, where no other user can read them."""
    done = subprocess.run(
        [sys.executable, str(root / "db" / "migrate.py"), command],
        env={**os.environ, **variables, "CSB_MIGRATOR_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotMigrated(f"db/migrate.py {command} failed: {done.stdout}{done.stderr}".strip())
