"""The embedded servers, as the other tests' fixtures use them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis as redis_client

from csb_core.local import postgres, privileges, processes, redis
from csb_core.local.postgres import PostgresServer
from csb_core.local.redis import RedisServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place with everything in its name that a shell or a parser stumbles over."""
    return tmp_path / "my % clone; 'so' to \"say\""


@pytest.fixture
def database(folder: Path) -> Iterator[PostgresServer]:
    server = postgres.start(folder)
    yield server
    server.stop("immediate")


@pytest.fixture
def store(folder: Path) -> Iterator[RedisServer]:
    server = redis.start(folder)
    yield server
    server.stop()


def ask(server: PostgresServer, query: str) -> object:
    with psycopg.connect(server.url) as conn:
        row = conn.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def test_postgres_is_durable_and_on_the_loopback_only(database: PostgresServer) -> None:
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert ask(database, f"SHOW {name}") == "on"
    assert ask(database, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(database, "SHOW unix_socket_directories") == ""
    assert ask(database, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'") == 0


def test_postgres_lets_nobody_in_without_the_password(database: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=database.port, user="postgres", password="wrong")
    assert (database.directory / "password").stat().st_mode & 0o777 == 0o600


def test_postgres_runs_without_root(database: PostgresServer) -> None:
    """Inside a namespace its user is nobody, though root outside; else it is no root at all."""
    in_namespace = Path(f"/proc/{database.pid}/ns/user").readlink()
    assert in_namespace != Path("/proc/self/ns/user").readlink() or os.geteuid() != 0


def test_starting_a_running_server_gives_the_same(
    database: PostgresServer, store: RedisServer, folder: Path
) -> None:
    assert postgres.start(folder) == database == postgres.find(folder)
    assert redis.start(folder) == store == redis.find(folder)


def test_what_was_written_outlives_a_kill(database: PostgresServer, folder: Path) -> None:
    """Also while a backend of the killed server is busy, and has not noticed."""
    with psycopg.connect(database.url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with closing(psycopg.connect(database.url)) as busy:
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 10000000)")
        os.kill(database.pid, signal.SIGKILL)
        os.waitpid(database.pid, 0)
    assert postgres.find(folder) is None

    again = postgres.start(folder, port=database.port)
    assert again.url == database.url
    assert ask(again, "SELECT answer FROM kept") == 42


def test_settings_go_over_ours(tmp_path: Path) -> None:
    server = postgres.start(tmp_path, settings={"max_connections": "33"})
    try:
        assert ask(server, "SHOW max_connections") == "33"
    finally:
        server.stop("immediate")


def test_a_server_stops_from_another_process(
    database: PostgresServer, store: RedisServer, folder: Path
) -> None:
    program = (
        "import pathlib, sys\n"
        "from csb_core.local import postgres, redis\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "postgres.stop(folder), redis.stop(folder)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    assert not processes.alive(database.pid)
    assert not processes.alive(store.pid)
    database.stop()
    store.stop()


def test_a_broken_server_says_why(tmp_path: Path) -> None:
    with pytest.raises(processes.NotStarted, match="shared_buffers"):
        postgres.start(tmp_path, settings={"shared_buffers": "nonsense"})


def test_redis_never_evicts_and_asks_for_its_password(store: RedisServer) -> None:
    with redis_client.Redis.from_url(store.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("append*") == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "appendfilename": "appendonly.aof",
        }
    with (
        redis_client.Redis(host="127.0.0.1", port=store.port) as stranger,
        pytest.raises(redis_client.AuthenticationError),
    ):
        stranger.ping()


def test_redis_keeps_its_data_and_its_url(store: RedisServer, folder: Path) -> None:
    with redis_client.Redis.from_url(store.url) as client:
        client.set("kept", "1")
    store.stop()
    assert redis.start(folder, port=store.port).url == store.url
    with redis_client.Redis.from_url(store.url) as client:
        assert client.get("kept") == b"1"


def test_redis_restarts_empty(store: RedisServer, folder: Path) -> None:
    with redis_client.Redis.from_url(store.url) as client:
        client.set("kept", "1")
    store.stop()
    shutil.rmtree(folder / "data")
    assert redis.start(folder, port=store.port).url == store.url
    with redis_client.Redis.from_url(store.url) as client:
        assert client.dbsize() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_without_namespaces_becomes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileges, "_namespace", lambda: ("/bin/false",))
    server = postgres.start(tmp_path)
    try:
        assert "setpriv" in privileges.unprivileged(tmp_path / "data", postgres.binary("initdb"))[0]
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        assert ask(server, "SELECT 1") == 1
        server.stop()
        server = postgres.start(tmp_path)
        assert ask(server, "SELECT 1") == 1
    finally:
        server.stop("immediate")
