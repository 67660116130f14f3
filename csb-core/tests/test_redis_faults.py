"""What Redis refuses is told with its remedy, and without anything that was secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from csb_core import keys
from csb_core.errors import QueueUnavailable
from csb_core.local import redis
from csb_core.local.redis import RedisServer
from csb_core.queue import Queue, connect

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of our own, to be spoilt."""
    server = redis.start(tmp_path_factory.mktemp("redis"), appendonly=False)
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("login", "code"), [("", "NOAUTH"), (":hunter2@", "WRONGPASS"), ("reader:hunter2@", "NOPERM")]
)
def test_who_may_not_enter_is_told_what_to_mend(server: RedisServer, login: str, code: str) -> None:
    with connect(server.url, timeout=SECOND) as boss:
        boss.execute_command("ACL", "SETUSER", "reader", "on", ">hunter2", "~*", "-@all", "+hello")
    told = _refusal(f"redis://{login}127.0.0.1:{server.port}")
    assert told.startswith(f"Redis refused this ({code}): ")
    assert "CSB_REDIS_URL" in told
    assert not [secret for secret in ("hunter2", "reader", "127.0.0.1") if secret in told]


@pytest.mark.parametrize(
    ("spoil", "mend", "code"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY"),
        (
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
            "NOREPLICAS",
        ),
        (("SET", keys.queue("aws"), "x"), ("DEL", keys.queue("aws")), "WRONGTYPE"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_written_is_told_with_its_remedy(
    server: RedisServer, spoil: tuple[str, ...], mend: tuple[str, ...], code: str
) -> None:
    with connect(server.url, timeout=SECOND) as boss:
        boss.execute_command(*spoil)
        try:
            told = _refusal(server.url)
        finally:
            boss.execute_command(*mend)
    assert told.startswith(f"Redis refused this ({code}): ")
    assert str(urlsplit(server.url).password) not in told


def _refusal(url: str) -> str:
    with connect(url, timeout=SECOND) as client, pytest.raises(QueueUnavailable) as raised:
        Queue(client, "aws").publish([b"1"])
    return str(raised.value)
