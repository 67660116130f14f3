"""The migration runner: forward only, checksummed, one at a time under an advisory lock.

    python db/migrate.py bootstrap --url <superuser's URL>   roles, passwords, schema; repeatable
    python db/migrate.py up        --url <csb_migrator's URL> apply what is missing
    python db/migrate.py status    --url <csb_migrator's URL> what is applied, what is missing

`--url` may be left out when CSB_MIGRATOR_DATABASE_URL is set. `bootstrap` takes the passwords of
the login roles from <ROLE>_PASSWORD (for instance CSB_API_USER_PASSWORD); a role without one keeps
the password it has. All of it works through PgBouncer in transaction mode.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

HERE = Path(__file__).resolve().parent
MIGRATIONS = HERE / "migrations"
FILE_NAME = re.compile(r"(\d{4})_[a-z0-9][a-z0-9_]*\.sql")
OWN_TRANSACTION = re.compile(
    r"^[ \t]*(BEGIN|START|COMMIT|ROLLBACK)([ \t]+(TRANSACTION|WORK))?[ \t]*;",
    re.IGNORECASE | re.MULTILINE,
)
LOCK = "csb_app.migrations"

#: Reads everything, and writes nothing: whoever dumps the database must see every tenant's rows.
BACKUP = "csb_backup_user"

#: Login roles beside the workers': name -> what is granted, and how long a statement may take.
LOGINS: Mapping[str, tuple[str | None, str]] = {
    "csb_migrator": ("csb_owner", "0"),
    "csb_api_user": (None, "10s"),
    "csb_admin_user": (None, "60s"),
    BACKUP: ("pg_read_all_data", "0"),
}


class MigrationError(Exception):
    """The files and the database disagree; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: its number, its name, its text and the SHA-256 of that text."""

    version: int
    name: str
    text: str
    checksum: str


def load(folder: Path = MIGRATIONS) -> list[Migration]:
    """Read the migrations in order; raises MigrationError for one that cannot be applied safely."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        matched = FILE_NAME.fullmatch(path.name)
        if matched is None:
            raise MigrationError(f"{path.name}: a migration is named 0001_what_it_does.sql")
        version, text = int(matched[1]), path.read_text(encoding="utf-8")
        if OWN_TRANSACTION.search(text):
            raise MigrationError(f"{path.name}: it runs in the runner's transaction, not its own")
        if version in found:
            raise MigrationError(f"{path.name}: number {version} is taken by {found[version].name}")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found[version] = Migration(version=version, name=path.name, text=text, checksum=checksum)
    return list(found.values())


def providers() -> list[str]:
    """The providers that schema.json has actions for; each gets a role csb_<provider>_user."""
    schema = json.loads((HERE.parent / "schema.json").read_text(encoding="utf-8"))
    named = {name.split(".")[0] for name in schema["$defs"] if "." in name}
    return sorted({*named, "sandbox"})


def bootstrap(url: str, passwords: Mapping[str, str], *, workers: Sequence[str]) -> None:
    """Make the roles and the schema, as a role that may; repeating it changes only passwords."""
    logins = dict(LOGINS) | {f"csb_{name}_user": ("csb_worker", "30s") for name in workers}
    with psycopg.connect(url) as conn:
        encoding = conn.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise MigrationError(f"the database's encoding is {encoding}: make it with UTF8")
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (LOCK,))
        known = {row[0] for row in conn.execute("SELECT rolname FROM pg_roles").fetchall()}
        _require_ours(conn, ["csb_owner", "csb_worker", *logins])
        for role in ("csb_owner", "csb_worker"):
            if role not in known:
                conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        for role, (granted, statement_timeout) in logins.items():
            _make_login(conn, role, granted, exists=role in known, password=passwords.get(role))
            for setting, value in (
                ("statement_timeout", statement_timeout),
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "15s"),
            ):
                conn.execute(
                    sql.SQL("ALTER ROLE {} SET {} = {}").format(
                        sql.Identifier(role), sql.Identifier(setting), sql.Literal(value)
                    )
                )
        for name in workers:
            # The statements of the line are few and name their rows by id: one plan fits all, and
            # making it anew costs as much as running it.
            login = sql.Identifier(f"csb_{name}_user")
            conn.execute(
                sql.SQL("ALTER ROLE {} SET plan_cache_mode = force_generic_plan").format(login)
            )
            # A statement commits once its rows are sent. A worker that was stopped, or is cut off,
            # and reads them no more must not keep its locks: statement_timeout would not end it.
            conn.execute(sql.SQL("ALTER ROLE {} SET tcp_user_timeout = '5s'").format(login))
        if BACKUP in passwords:  # a maker that is no superuser must have BYPASSRLS itself
            conn.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(BACKUP)))
        _make_schema(conn)
        _require_plain(conn, [role for role in logins if role != BACKUP])


def _require_ours(conn: psycopg.Connection, roles: Sequence[str]) -> None:
    """Raise MigrationError for roles that are there and that we may not change."""
    query = """
        SELECT string_agg(rolname, ', ' ORDER BY rolname),
               (SELECT string_agg(DISTINCT datname, ', ')
                  FROM pg_database, aclexplode(datacl)
                 WHERE grantee = to_regrole('csb_owner') AND datname <> current_database())
          FROM pg_roles
         WHERE rolname = ANY (%s) AND NOT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')
           AND current_setting('server_version_num')::integer >= 160000
        """
    theirs, using = conn.execute(query, (roles,)).fetchone() or (None, None)
    if theirs:
        raise MigrationError(
            f"{theirs}: another user made these roles, which a cluster's databases share (using "
            f"them: {using or 'none but this'}). Give this installation a cluster of its own; or, "
            f"if they are its own, come as who made them or as a superuser"
        )


def _make_login(
    conn: psycopg.Connection, role: str, granted: str | None, *, exists: bool, password: str | None
) -> None:
    name = sql.Identifier(role)
    if not exists:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS").format(name))
    if password is not None:
        conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))
    if granted is not None:
        conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(granted), name))


def _make_schema(conn: psycopg.Connection) -> None:
    database = sql.Identifier(conn.info.dbname)
    # A creator that is no superuser must be a member of the owner to give it the schema.
    conn.execute("GRANT csb_owner TO CURRENT_USER")
    conn.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    conn.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO csb_owner").format(database))
    conn.execute(
        sql.SQL(
            "GRANT CONNECT ON DATABASE {} TO csb_migrator, csb_api_user, csb_admin_user, "
            "csb_backup_user, csb_worker"
        ).format(database)
    )
    conn.execute("CREATE SCHEMA IF NOT EXISTS csb_app AUTHORIZATION csb_owner")
    conn.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def _require_plain(conn: psycopg.Connection, logins: Iterable[str]) -> None:
    """Raise MigrationError for a role that was there before us and that no policy binds."""
    above = conn.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND (rolsuper OR rolbypassrls)",
        (["csb_owner", "csb_worker", *logins],),
    ).fetchall()
    if above:
        names = ", ".join(row[0] for row in above)
        raise MigrationError(f"{names}: a superuser or BYPASSRLS; make it NOSUPERUSER NOBYPASSRLS")


def applied(conn: psycopg.Connection) -> dict[int, tuple[str, str]]:
    """What the database has: version -> (name, checksum)."""
    conn.execute(
        """
        CREATE TABLE IF NOT EXISTS csb_app.csb_schema_migrations (
            version    integer     PRIMARY KEY,
            name       text        NOT NULL,
            checksum   text        NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now())
        """
    )
    rows = conn.execute(
        "SELECT version, name, checksum FROM csb_app.csb_schema_migrations"
    ).fetchall()
    return {version: (name, checksum) for version, name, checksum in rows}


def pending(files: Sequence[Migration], done: Mapping[int, tuple[str, str]]) -> list[Migration]:
    """What is still to be applied; raises MigrationError when history was rewritten.

    What a newer release has applied is no fault: after a rollback the older one works with it.
    """
    by_version = {m.version: m for m in files}
    ours = max(by_version, default=0)
    for version, (name, checksum) in done.items():
        if version > ours:
            continue
        if version not in by_version:
            raise MigrationError(f"{name} is applied but its file is gone: bring it back")
        if by_version[version].checksum != checksum:
            raise MigrationError(
                f"{name} was changed after it was applied: add a new migration instead"
            )
    newest = max(done, default=0)
    missing = [m for m in files if m.version not in done]
    for m in missing:
        if m.version < newest:
            raise MigrationError(
                f"{m.name} comes before {newest:04d}, which is applied: renumber it"
            )
    return missing


def up(url: str, folder: Path = MIGRATIONS) -> list[str]:
    """Apply every missing migration, each in a transaction of its own; return their names."""
    files = load(folder)
    names: list[str] = []
    with psycopg.connect(url, prepare_threshold=None) as conn:
        while True:
            with conn.transaction():
                conn.execute("SET LOCAL ROLE csb_owner")
                conn.execute("SET LOCAL lock_timeout = '60s'")
                conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (LOCK,))
                missing = pending(files, applied(conn))
                if not missing:
                    return names
                step = missing[0]
                conn.execute(step.text.encode())
                conn.execute(
                    """
                    INSERT INTO csb_app.csb_schema_migrations (version, name, checksum)
                    VALUES (%s, %s, %s)
                    """,
                    (step.version, step.name, step.checksum),
                )
                names.append(step.name)


def status(url: str, folder: Path = MIGRATIONS) -> tuple[list[str], list[str]]:
    """Names of what is applied and of what is missing."""
    with psycopg.connect(url, prepare_threshold=None) as conn, conn.transaction():
        conn.execute("SET LOCAL ROLE csb_owner")
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (LOCK,))
        done = applied(conn)
        missing = pending(load(folder), done)
    return [done[v][0] for v in sorted(done)], [m.name for m in missing]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description="Migrate the database of CSecBridge.")
    parser.add_argument("command", choices=["bootstrap", "up", "status"])
    parser.add_argument("--url", default=os.environ.get("CSB_MIGRATOR_DATABASE_URL"))
    args = parser.parse_args(argv)
    if not args.url:
        parser.error("give --url, or set CSB_MIGRATOR_DATABASE_URL")
    try:
        if args.command == "bootstrap":
            workers = providers()
            roles = [*LOGINS, *(f"csb_{name}_user" for name in workers)]
            passwords = {r: p for r in roles if (p := os.environ.get(f"{r.upper()}_PASSWORD"))}
            bootstrap(args.url, passwords, workers=workers)
            print("roles and schema are there:", ", ".join(roles))
        elif args.command == "up":
            names = up(args.url)
            print("\n".join(f"applied {name}" for name in names) or "nothing to apply")
        else:
            done, missing = status(args.url)
            print(
                "\n".join([*(f"applied  {n}" for n in done), *(f"missing  {n}" for n in missing)])
            )
    except (MigrationError, psycopg.Error, OSError) as exc:
        print(f"migrate: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
