"""How often one may call: per key and per tenant, across processes, with or without Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from api_service.circuit import Circuit
from api_service.counters import SharedCounters
from csb_core.errors import CacheUnavailable
from csb_core.testing import make_api_key

URL = "/api/v1/requests"


def test_standing_is_told_with_every_answer(client: FlaskClient) -> None:
    first, second = client.get(URL), client.get(f"{URL}/nonsense")

    assert first.headers["RateLimit-Limit"] == "100000"
    left = [int(answered.headers["RateLimit-Remaining"]) for answered in (first, second)]
    assert left == [99999, 99998]
    assert 0 < int(first.headers["RateLimit-Reset"]) <= 60


def test_key_that_calls_too_often_is_refused(
    make_app: Callable[..., Any], new_tenant: Callable[..., Any]
) -> None:
    client = make_app(rate_limit_key="3/minute").test_client()
    busy, calm = new_tenant(), new_tenant()

    codes = [client.get(URL, headers={"X-Auth-Token": busy.token}).status_code for _ in range(5)]
    refused = client.get(URL, headers={"X-Auth-Token": busy.token})

    assert codes == [200, 200, 200, 429, 429]
    assert refused.get_json()["code"] == "rate_limited"
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert client.get(URL, headers={"X-Auth-Token": calm.token}).status_code == 200
    assert client.get("/health").status_code == 200


def test_keys_of_a_tenant_share_its_limit(
    make_app: Callable[..., Any], new_tenant: Callable[..., Any], database: Any
) -> None:
    client = make_app(rate_limit_tenant="4/minute").test_client()
    tenant = new_tenant()
    second = make_api_key(database.admin, tenant.tenant_id)

    tokens = [tenant.token, second] * 3
    codes = [client.get(URL, headers={"X-Auth-Token": token}).status_code for token in tokens]

    assert codes == [200] * 4 + [429] * 2


def test_key_may_have_a_limit_of_its_own(
    make_app: Callable[..., Any], new_tenant: Callable[..., Any]
) -> None:
    client = make_app().test_client()
    tenant = new_tenant(requests_per_minute=2)
    codes = [client.get(URL, headers={"X-Auth-Token": tenant.token}).status_code for _ in range(3)]
    assert codes == [200, 200, 429]


def test_batch_counts_tenfold(make_app: Callable[..., Any], tenant: Any) -> None:
    client = make_app(rate_limit_key="12/minute").test_client()
    headers = {"X-Auth-Token": tenant.token}
    assert client.post(f"{URL}/batch", json={}, headers=headers).status_code == 422
    assert client.get(URL, headers=headers).status_code == 200
    assert client.post(f"{URL}/batch", json={}, headers=headers).status_code == 429


def test_batch_of_a_key_that_may_call_less_than_ten_times_takes_all_it_may(
    make_app: Callable[..., Any], new_tenant: Callable[..., Any]
) -> None:
    client = make_app().test_client()
    headers = {"X-Auth-Token": new_tenant(requests_per_minute=4).token}
    codes = [
        client.post(f"{URL}/batch", json={}, headers=headers).status_code,
        client.get(URL, headers=headers).status_code,
        client.post(f"{URL}/batch", json={}, headers=headers).status_code,
    ]
    assert codes == [422, 429, 429]


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = 1_000_020.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of two processes."""
    return Clock()


@pytest.fixture
def pair(redis_url: str, clock: Clock) -> Iterator[tuple[SharedCounters, SharedCounters]]:
    """The counters of two processes over one Redis."""
    with redis.Redis.from_url(redis_url) as store:
        made = [
            SharedCounters("", redis_client=store, circuit=Circuit(), clock=clock) for _ in range(2)
        ]
        yield made[0], made[1]


def hits(counters: SharedCounters, times: int) -> int:
    return sum(counters.acquire_sliding_window_entry("k", 10, 60) for _ in range(times))


def test_processes_share_what_they_counted(pair: tuple[SharedCounters, SharedCounters]) -> None:
    one, two = pair
    assert hits(one, 6) == 6
    assert hits(two, 1) == 1
    one.share()
    two.share()
    assert hits(two, 9) == 3


def test_overshoot_is_what_the_others_admit_in_one_interval(
    pair: tuple[SharedCounters, SharedCounters],
) -> None:
    one, two = pair
    assert (hits(one, 50), hits(two, 50)) == (10, 10)
    one.share()
    two.share()
    assert (hits(one, 50), hits(two, 50)) == (0, 0)


def test_window_slides(pair: tuple[SharedCounters, SharedCounters], clock: Clock) -> None:
    one, two = pair
    assert hits(one, 10) == 10
    one.share()
    clock.now += 60
    assert hits(one, 10) == 0
    hits(two, 1)
    two.share()  # learns of the window before from Redis
    clock.now += 30
    assert hits(two, 10) == 4  # half of the ten before, and its own one
    clock.now += 120
    assert hits(one, 20) == 10


@pytest.mark.parametrize("used", [1, 9, 10])
@pytest.mark.parametrize("later", [0, 1, 59, 60, 75])
def test_who_waits_as_told_is_admitted(
    pair: tuple[SharedCounters, SharedCounters], clock: Clock, used: int, later: float
) -> None:
    one, _ = pair
    hits(one, used)
    clock.now += later
    hits(one, 50)

    wait = one.free_in("k", 10, 60, 1)
    assert 0 < wait <= 66  # all at once at the beginning of a window: it has to slide out
    clock.now += wait * 0.95
    assert hits(one, 1) == 0
    clock.now += wait * 0.05 + 0.01
    assert hits(one, 1) == 1


def test_without_redis_each_process_counts_for_itself(clock: Clock) -> None:
    with redis.Redis.from_url("redis://127.0.0.1:1/0") as nobody:
        counters = SharedCounters("", redis_client=nobody, circuit=Circuit(), clock=clock)
        assert hits(counters, 20) == 10
        with pytest.raises(CacheUnavailable):
            counters.share()
        assert counters.share() == 0  # the circuit is open
        assert hits(counters, 1) == 0


def test_counts_are_forgotten_after_their_windows(
    pair: tuple[SharedCounters, SharedCounters], clock: Clock
) -> None:
    one, _ = pair
    hits(one, 1)
    one.share()
    clock.now += 121
    one.share()
    assert one.reset() == 0
