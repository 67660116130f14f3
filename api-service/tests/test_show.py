"""GET /api/v1/requests/{id}: from cache and store, conditional, patient, and only one's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from csb_core import keys
from csb_core.local import redis as embedded_redis
from csb_core.local.redis import RedisServer
from csb_core.states import Status
from csb_core.testing import make_payload

URL = "/api/v1/requests"


@pytest.fixture
def url(client: FlaskClient) -> str:
    """Where an accepted request is found."""
    return str(client.post(URL, json=make_payload()).headers["Location"])


def test_second_read_comes_from_the_cache_byte_for_byte(client: FlaskClient, url: str) -> None:
    first, second = client.get(url), client.get(url)

    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("miss", "hit")
    assert first.data == second.data
    assert first.headers["ETag"] == second.headers["ETag"] == '"1"'


def test_move_is_seen_at_once(
    client: FlaskClient, url: str, work: Callable[[str, Status], None]
) -> None:
    assert client.get(url).get_json()["status"] == "PENDING"
    work(url.rpartition("/")[2], Status.SUCCESS)
    shown = client.get(url)

    assert shown.get_json()["status"] == "SUCCESS"
    assert shown.get_json()["changed"] is True
    assert shown.headers["ETag"] == '"3"'
    assert "cancel" not in shown.get_json()["links"]


def test_unchanged_request_is_a_304(
    client: FlaskClient, url: str, work: Callable[[str, Status], None]
) -> None:
    etag = client.get(url).headers["ETag"]

    unchanged = client.get(url, headers={"If-None-Match": etag})
    assert unchanged.status_code == 304
    assert unchanged.data == b""
    assert unchanged.headers["ETag"] == etag
    # Compared weakly (RFC 9110, 13.1.2): a proxy that compresses makes it weak.
    assert client.get(url, headers={"If-None-Match": f"W/{etag}"}).status_code == 304
    work(url.rpartition("/")[2], Status.SUCCESS)
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 200
    assert client.get(url, headers={"If-None-Match": "*"}).status_code == 304


@pytest.mark.parametrize("wrong", ["nonsense", "0" * 32, "../../etc", "%00", "-" * 36])
def test_what_is_no_id_of_ours_is_not_found(client: FlaskClient, wrong: str) -> None:
    for path in (wrong, f"{wrong}/audit", f"{wrong}/refs"):
        answered = client.get(f"{URL}/{path}")
        assert answered.status_code == 404
        assert answered.mimetype == "application/problem+json"


def test_other_tenants_see_nothing_of_it(
    client: FlaskClient,
    client_of: Callable[..., FlaskClient],
    new_tenant: Callable[..., Any],
    url: str,
    work: Callable[[str, Status], None],
) -> None:
    stranger = client_of(new_tenant())

    def refused() -> set[int]:
        return {
            stranger.get(url).status_code,
            stranger.get(f"{url}?wait=0.2").status_code,
            stranger.get(url, headers={"If-None-Match": '"1"'}).status_code,
            stranger.get(f"{url}/audit").status_code,
            stranger.get(f"{url}/refs").status_code,
            stranger.post(f"{url}/cancel").status_code,
            stranger.post(f"{url}/replay").status_code,
        }

    assert refused() == {404}
    assert client.get(url).headers["X-Cache"] == "miss"
    assert client.get(url).headers["X-Cache"] == "hit"
    assert refused() == {404}
    assert client.get(url).headers["X-Cache"] == "hit"
    work(url.rpartition("/")[2], Status.FAILED)
    assert refused() == {404}
    assert stranger.get(URL).get_json()["items"] == []


def test_trail_and_references(
    client: FlaskClient, url: str, work: Callable[[str, Status], None]
) -> None:
    work(url.rpartition("/")[2], Status.FAILED)

    trail = client.get(f"{url}/audit").get_json()["items"]
    moves = [(entry["from_status"], entry["to_status"]) for entry in trail]
    assert moves == [(None, "PENDING"), ("PENDING", "IN_PROGRESS"), ("IN_PROGRESS", "FAILED")]
    assert trail[-1]["detail"]["code"] == "NoSuchEntity"
    [ref] = client.get(f"{url}/refs").get_json()["items"]
    assert (ref["type"], ref["value"], ref["service"]) == ("request_id", "r-1", "iam")


def test_wait_ends_when_the_request_does(
    client: FlaskClient, url: str, work: Callable[[str, Status], None]
) -> None:
    worker = threading.Timer(0.7, work, (url.rpartition("/")[2], Status.SUCCESS))
    worker.start()
    began = time.monotonic()
    shown = client.get(f"{url}?wait=20")
    taken = time.monotonic() - began
    worker.join()

    assert shown.get_json()["status"] == "SUCCESS"
    assert 0.6 < taken < 3


def test_wait_with_an_etag_ends_at_the_next_move(
    client: FlaskClient, url: str, work: Callable[[str, Status], None]
) -> None:
    worker = threading.Timer(0.5, work, (url.rpartition("/")[2], Status.IN_PROGRESS))
    worker.start()
    shown = client.get(f"{url}?wait=20", headers={"If-None-Match": '"1"'})
    worker.join()

    assert shown.status_code == 200
    assert shown.get_json()["status"] == "IN_PROGRESS"


def test_wait_gives_up_in_time(client: FlaskClient, url: str) -> None:
    began = time.monotonic()
    shown = client.get(f"{url}?wait=1")
    unchanged = client.get(f"{url}?wait=0.5", headers={"If-None-Match": '"1"'})

    assert shown.get_json()["status"] == "PENDING"
    assert unchanged.status_code == 304
    assert 1.4 < time.monotonic() - began < 3


def test_full_house_is_answered_at_once(
    make_app: Callable[..., Any], tenant: Any, url: str
) -> None:
    crowded = make_app(max_waiters=0).test_client()
    began = time.monotonic()
    shown = crowded.get(f"{url}?wait=20", headers={"X-Auth-Token": tenant.token})

    assert shown.status_code == 200
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "wait", ["-1", "31", "soon", "nan", "inf", "1_0", "%D9%A3", "%201", "%2B1", "", "1&wait=2"]
)
def test_wait_must_be_a_fair_number(client: FlaskClient, url: str, wait: str) -> None:
    assert client.get(f"{url}?wait={wait}").status_code == 400


@pytest.mark.parametrize("wait", ["0", "0.1", "00.1", "1e-1"])
def test_wait_may_be_written_as_any_number(client: FlaskClient, url: str, wait: str) -> None:
    assert client.get(f"{url}?wait={wait}").status_code == 200


def test_id_has_one_spelling_but_for_its_hyphens(client: FlaskClient, url: str) -> None:
    wanted = url.rpartition("/")[2]
    bare = wanted.replace("-", "")
    shown = {text: client.get(f"{URL}/{text}").status_code for text in (wanted, bare)}
    assert set(shown.values()) == {200}
    for text in (f"{{{wanted}}}", f"urn:uuid:{wanted}", f"0x{bare[2:]}", f"+{bare[1:]}"):
        assert client.get(f"{URL}/{text}").status_code == 404
    assert client.get(f"{URL}?util_id={bare[0]}_{bare[2:]}").status_code == 400


def test_unknown_parameters_are_refused(client: FlaskClient, url: str) -> None:
    answered = client.get(f"{url}?wiat=3")
    assert answered.status_code == 400
    assert "wait" in answered.get_json()["detail"]


@pytest.fixture
def fragile(
    make_app: Callable[..., Any], settings: Any, fragile_redis: RedisServer, tenant: Any
) -> FlaskClient:
    """A client of an API whose Redis may be stopped."""
    client: FlaskClient = make_app(
        redis_url=type(settings.redis_url)(fragile_redis.url)
    ).test_client()
    client.environ_base["HTTP_X_AUTH_TOKEN"] = tenant.token
    return client


def test_wait_looks_by_itself_when_redis_is_gone(
    fragile: FlaskClient, fragile_redis: RedisServer, work: Callable[[str, Status], None]
) -> None:
    url = fragile.post(URL, json=make_payload()).headers["Location"]
    assert fragile.get(url).status_code == 200
    embedded_redis.stop(fragile_redis.directory)

    worker = threading.Timer(1, work, (url.rpartition("/")[2], Status.SUCCESS))
    worker.start()
    began = time.monotonic()
    shown = fragile.get(f"{url}?wait=20")
    worker.join()

    assert shown.get_json()["status"] == "SUCCESS"
    assert time.monotonic() - began < 6

    embedded_redis.start(fragile_redis.directory, port=fragile_redis.port, appendonly=False)
    time.sleep(1.2)  # the circuit closes
    url = fragile.post(URL, json=make_payload()).headers["Location"]
    assert fragile.get(url).headers["X-Cache"] == "miss"
    assert fragile.get(url).headers["X-Cache"] == "hit"


def test_cached_value_of_another_tenant_is_never_shown(
    client: FlaskClient, url: str, redis_url: str
) -> None:
    client.get(url)
    name = keys.status(url.rpartition("/")[2])
    with redis.Redis.from_url(redis_url) as store:
        forged = store.get(name).replace(b'{"tenant_id":"', b'{"tenant_id":"x', 1)
        store.set(name, forged)

    assert client.get(url).headers["X-Cache"] == "miss"


def test_end_is_remembered_by_the_process_and_for_its_tenant_only(
    fragile: FlaskClient,
    fragile_redis: RedisServer,
    new_tenant: Callable[..., Any],
    work: Callable[[str, Status], None],
) -> None:
    url = fragile.post(URL, json=make_payload()).headers["Location"]
    work(url.rpartition("/")[2], Status.SUCCESS)
    assert fragile.get(url).headers["X-Cache"] == "miss"
    embedded_redis.stop(fragile_redis.directory)

    shown = fragile.get(url)
    strange = fragile.get(url, headers={"X-Auth-Token": new_tenant().token})

    assert shown.headers["X-Cache"] == "hit"
    assert shown.get_json()["status"] == "SUCCESS"
    assert strange.status_code == 404
