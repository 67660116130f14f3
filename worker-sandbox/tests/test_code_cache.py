"""Code is looked for in three places, and believed only under its own digest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest

from csb_core import keys, metrics
from csb_core.db import connection
from csb_core.errors import LeaseLost
from csb_core.models import Lease
from csb_core.queue import Redis, connect
from worker_sandbox.code_cache import CodeCache, CodeUnusable, Prepared

CODE = "def transform(data):\n    return data\n"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url, timeout=timedelta(seconds=1)) as client:
        yield client


@pytest.fixture
def make(tenant: Any, redis: Redis) -> Callable[..., CodeCache]:
    def made(**more: Any) -> CodeCache:
        given: dict[str, Any] = {
            "pool": tenant.sandbox,
            "redis": redis,
            "most_bytes": 100_000,
            "ttl": timedelta(minutes=1),
            "has_room": lambda: True,
            **more,
        }
        return CodeCache(**given)

    return made


def count(level: str, result: str) -> float:
    return float(metrics.UTIL_CACHE.labels(level, result)._value.get())


def looked(cache: CodeCache, lease: Lease) -> tuple[Prepared, dict[str, float]]:
    """What came, and which counters went up on the way."""
    names = [
        (level, result)
        for level in ("process", "redis", "store")
        for result in ("hit", "miss", "corrupt", "unavailable")
    ]
    before = {name: count(*name) for name in names}
    assert lease.util is not None
    found = cache.code_of(lease, lease.util)
    after = {" ".join(name): count(*name) - before[name] for name in names}
    return found, {name: number for name, number in after.items() if number}


def digest(lease: Lease) -> str:
    assert lease.util is not None
    return lease.util.digest


def test_each_level_spares_the_next(
    tenant: Any, make: Callable[..., CodeCache], redis: Redis
) -> None:
    schema = {"type": "object"}
    lease = tenant.leased(tenant.util(CODE, parameters={"output_schema": schema}))
    cache = make()
    first, ways = looked(cache, lease)
    assert (first.kind, first.code) == ("transformer", CODE)
    assert first.output_schema is not None
    assert first.output_schema.faults([]) != []
    assert ways == {"process miss": 1, "redis miss": 1, "store hit": 1}
    assert looked(cache, lease)[1] == {"process hit": 1}
    assert 0 < redis.ttl(keys.util(digest(lease))) <= 3600

    again, ways = looked(make(), lease)
    assert ways == {"process miss": 1, "redis hit": 1}
    assert again.code == CODE


@pytest.mark.parametrize(
    "forged",
    [
        {"kind": "transformer", "code": "evil", "parameters": {}, "execution_config": {}},
        {"kind": "transformer", "code": CODE},
        [],
        b"no json",
    ],
)
def test_redis_is_not_believed(
    tenant: Any, make: Callable[..., CodeCache], redis: Redis, forged: Any
) -> None:
    lease = tenant.leased(tenant.util(CODE))
    value = forged if isinstance(forged, bytes) else orjson.dumps(forged)
    redis.set(keys.util(digest(lease)), value)
    found, ways = looked(make(), lease)
    assert found.code == CODE
    assert ways == {"process miss": 1, "redis corrupt": 1, "store hit": 1}
    # What was wrong has been replaced by what is right.
    assert looked(make(), lease)[1] == {"process miss": 1, "redis hit": 1}


def test_the_store_is_not_believed_either(tenant: Any, make: Callable[..., CodeCache]) -> None:
    lease = tenant.leased(tenant.util(CODE))
    assert lease.util is not None
    wrong = replace(lease, util=replace(lease.util, digest="0" * 64))
    with pytest.raises(CodeUnusable, match="digest"):
        make().code_of(wrong, wrong.util)


def test_a_request_that_is_not_ours_opens_nothing(
    tenant: Any, make: Callable[..., CodeCache]
) -> None:
    lease = tenant.leased(tenant.util(CODE))
    with pytest.raises(LeaseLost):
        looked(make(), replace(lease, token=lease.token + 1))
    stranger = replace(lease, correlation_id=UUID(int=1))
    with pytest.raises(LeaseLost):
        looked(make(), stranger)


def test_the_sandbox_role_sees_no_util_but_by_its_claim(tenant: Any) -> None:
    tenant.util(CODE)
    for table in ("csb_utils", "csb_util_versions", "csb_util_shares", "csb_util_rules"):
        with (
            psycopg.connect(tenant.database.sandbox) as conn,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            conn.execute(f"SELECT count(*) FROM csb_app.{table}")
    with connection(tenant.sandbox) as conn:
        row = conn.execute("SELECT * FROM csb_app.claimed_util(%s, 1)", (UUID(int=7),)).fetchone()
    assert row is None


def test_without_redis_nothing_waits_for_it(tenant: Any, make: Callable[..., CodeCache]) -> None:
    nobody = connect("redis://127.0.0.1:1/0", timeout=timedelta(seconds=1))
    lease = tenant.leased(tenant.util(CODE))
    cache = make(redis=nobody, most_bytes=0)
    found, ways = looked(cache, lease)
    assert found.code == CODE
    assert ways == {"process miss": 1, "redis unavailable": 1, "store hit": 1}
    # The next ones do not even ask, for a moment.
    assert looked(cache, lease)[1] == {"process miss": 1, "store hit": 1}


def test_a_full_redis_gets_nothing_more(
    tenant: Any, make: Callable[..., CodeCache], redis: Redis
) -> None:
    lease = tenant.leased(tenant.util(CODE))
    looked(make(has_room=lambda: False), lease)
    assert redis.exists(keys.util(digest(lease))) == 0


def test_a_process_keeps_only_so_much(tenant: Any, make: Callable[..., CodeCache]) -> None:
    leases = [tenant.leased(tenant.util(f"{CODE}# {'x' * 3000} {n}\n")) for n in range(5)]
    cache = make(most_bytes=10_000)  # two of them
    for lease in leases:
        looked(cache, lease)
    assert looked(cache, leases[4])[1] == {"process hit": 1}
    assert "process miss" in looked(cache, leases[0])[1]
    assert cache._bytes <= 10_000
    assert cache._bytes == sum(entry.prepared.size for entry in cache._kept.values())


def test_what_is_kept_expires(tenant: Any, make: Callable[..., CodeCache]) -> None:
    lease = tenant.leased(tenant.util(CODE))
    cache = make(ttl=timedelta(milliseconds=50))
    looked(cache, lease)
    assert looked(cache, lease)[1] == {"process hit": 1}
    time.sleep(0.06)
    assert looked(cache, lease)[1] == {"process miss": 1, "redis hit": 1}


def test_a_schema_that_cannot_be_used_fails_the_request(
    tenant: Any, make: Callable[..., CodeCache]
) -> None:
    """The API takes none such; whatever stands in the store must still not end the worker."""
    hanging = {"$ref": "#"}
    lease = tenant.leased(tenant.util(CODE, parameters={"output_schema": hanging}))
    with pytest.raises(CodeUnusable, match="output_schema"):
        looked(make(), lease)
