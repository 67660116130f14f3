"""The API as it runs: gunicorn, gevent, two processes, two listeners."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from csb_core.config import ApiSettings
from csb_core.local.ports import free_port
from csb_core.states import Status
from csb_core.testing import make_payload

URL = "/api/v1/requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running API."""

    url: str
    metrics_url: str
    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def server(settings: ApiSettings, tmp_path: Path) -> Iterator[Server]:
    """Two processes under gunicorn, ended by SIGTERM."""
    public, metrics = free_port(), free_port()
    log = tmp_path / "api.log"
    environ = {
        **os.environ,
        "CSB_DATABASE_URL": settings.database_url.get_secret_value(),
        "CSB_REDIS_URL": settings.redis_url.get_secret_value(),
        "CSB_BIND": f"127.0.0.1:{public}",
        "CSB_METRICS_BIND": f"127.0.0.1:{metrics}",
        "CSB_RATE_LIMIT_TENANT": "100000/minute",
        "CSB_RATE_LIMIT_KEY": "100000/minute",
        "CSB_POOL_TIMEOUT_SECONDS": "1",
        "CSB_BODY_TIMEOUT_SECONDS": "1",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "python:api_service.gunicorn_conf"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "api_service.wsgi:app"], env=environ, stdout=out, stderr=out
        )
    server = Server(
        url=f"http://127.0.0.1:{public}",
        metrics_url=f"http://127.0.0.1:{metrics}/metrics",
        process=process,
        log=log,
    )
    try:
        wait_until(lambda: requests.get(f"{server.url}/ready", timeout=2).ok)
        yield server
    finally:
        process.terminate()
        assert process.wait(timeout=40) == 0, log.read_text()[-3000:]


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except requests.RequestException:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def session(tenant: Any) -> Iterator[requests.Session]:
    """A client of the tenant."""
    with requests.Session() as session:
        session.headers["X-Auth-Token"] = tenant.token
        yield session


def test_fifty_identical_posts_at_once_are_one_request(server: Server, tenant: Any) -> None:
    def post(_: int) -> requests.Response:
        return requests.post(
            server.url + URL,
            json=make_payload(client_request_id="INC-1"),
            headers={"X-Auth-Token": tenant.token},
            timeout=20,
        )

    with ThreadPoolExecutor(50) as pool:
        answered = list(pool.map(post, range(50)))

    assert sorted(r.status_code for r in answered) == [200] * 49 + [202]
    assert len({r.json()["correlation_id"] for r in answered}) == 1


def test_chunks_that_are_none_are_the_callers_fault(server: Server, tenant: Any) -> None:
    head = (
        f"POST {URL} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {tenant.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = raw_request(server, f"{head}zz\r\n".encode()).decode()
    assert answer.startswith("HTTP/1.1 400 ")
    assert '"code":"bad_request"' in answer


@pytest.mark.parametrize("length", ["Content-Length: 9", "Transfer-Encoding: chunked"])
def test_body_that_stops_half_way_is_not_waited_for(
    server: Server, tenant: Any, length: str
) -> None:
    began = time.monotonic()
    head = (
        f"POST {URL} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {tenant.token}\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n"
    )
    answer = raw_request(server, f"{head}4\r\n".encode(), ends=False).decode()
    assert answer.startswith("HTTP/1.1 408 ")
    assert '"code":"request_timeout"' in answer
    assert "\r\nConnection: close\r\n" in answer
    assert time.monotonic() - began < 5  # the body's second, and none of keepalive's five


def test_late_rest_of_a_body_does_not_reset_the_answer_away(server: Server, tenant: Any) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = (
        f"POST {URL} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {tenant.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 90000\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as conn:
        conn.sendall(f"{head}4".encode())
        time.sleep(1.4)  # it is answered, and nobody has read that yet
        for _ in range(3):
            conn.sendall(b"4" * 9000)
            time.sleep(0.1)
        answer = b"".join(iter(lambda: conn.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_long_polls_of_both_processes_wake_up(
    server: Server, session: requests.Session, tenant: Any, work: Callable[[str, Status], None]
) -> None:
    url = server.url + session.post(server.url + URL, json=make_payload()).headers["Location"]

    def wait(_: int) -> tuple[str, float]:
        headers = {"X-Auth-Token": tenant.token}
        began = time.monotonic()
        status = requests.get(f"{url}?wait=25", headers=headers, timeout=30).json()["status"]
        return status, time.monotonic() - began

    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(wait, n) for n in range(20)]
        time.sleep(2)
        assert "csb_long_poll_waiters 20.0" in requests.get(server.metrics_url, timeout=5).text
        work(url.rpartition("/")[2], Status.SUCCESS)
        ends = [future.result() for future in waiting]

    assert {status for status, _ in ends} == {"SUCCESS"}
    assert max(seconds for _, seconds in ends) < 6


def test_long_polls_end_when_the_server_does(
    server: Server, session: requests.Session, tenant: Any
) -> None:
    url = server.url + session.post(server.url + URL, json=make_payload()).headers["Location"]
    headers = {"X-Auth-Token": tenant.token}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(requests.get, f"{url}?wait=30", headers=headers, timeout=40)
        time.sleep(1.5)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert waiting.result().json()["status"] == "PENDING"
    server.process.wait(timeout=20)
    assert time.monotonic() - began < 12


def test_outage_of_postgresql_is_told_and_survived(
    server: Server,
    session: requests.Session,
    postgres_away: Callable[[], AbstractContextManager[None]],
) -> None:
    def post() -> requests.Response:
        return session.post(server.url + URL, json=make_payload(), timeout=20)

    assert post().status_code == 202
    with postgres_away():
        refused = [post() for _ in range(4)]
        assert requests.get(f"{server.url}/ready", timeout=5).status_code == 503
        assert requests.get(f"{server.url}/health", timeout=5).status_code == 200

    def serves() -> bool:
        # On a connection of its own each time, so that both processes are asked.
        said = [requests.get(f"{server.url}/ready", timeout=5).json()["status"] for _ in range(8)]
        return post().status_code == 202 and set(said) == {"ready"}

    wait_until(serves, 20)
    assert {r.status_code for r in refused} == {503}
    assert all("Retry-After" in r.headers for r in refused)


def test_endless_chunked_body_is_cut_off(server: Server, tenant: Any) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    answered = requests.post(
        server.url + URL,
        data=chunks(),
        headers={"X-Auth-Token": tenant.token, "Content-Type": "application/json"},
        timeout=20,
    )
    assert answered.status_code == 413
    assert answered.json()["code"] == "body_too_large"


def test_metrics_are_all_processes_and_on_their_own_port(
    server: Server, session: requests.Session
) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(
                lambda _: requests.get(f"{server.url}/health", timeout=5).status_code, range(60)
            )
        )
    shown = requests.get(server.metrics_url, timeout=5).text
    counted = 'csb_http_request_seconds_count{method="GET",route="/health",status="200"} 60.0'
    assert counted in shown
    assert session.get(f"{server.url}/metrics").status_code == 404
    assert session.get(server.metrics_url.replace("/metrics", URL)).status_code == 404


def test_every_line_is_json_and_tells_no_token(
    server: Server, session: requests.Session, tenant: Any
) -> None:
    answered = session.post(
        server.url + URL,
        json=make_payload(),
        headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    )
    session.get(server.url + URL, headers={"Authorization": f"Bearer {tenant.token}x"})
    raw_request(server, b"GET /" + tenant.token.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")

    def accessed() -> list[Any]:
        return [line for line in server.lines() if line["message"] == "http.served"]

    wait_until(lambda: len(accessed()) >= 3)
    [line] = [
        got for got in accessed() if got.get("request_id") == answered.headers["X-Request-ID"]
    ]
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert line["tenant_id"] == str(tenant.tenant_id)
    assert line["context"]["status"] == 202
    assert tenant.token.rpartition("_")[2] not in server.log.read_text()


def raw_request(server: Server, request: bytes, *, ends: bool = True) -> bytes:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as conn:
        conn.sendall(request)
        answer = b""
        # Whoever is closed with bytes unread gets a reset after the answer; what came can be read.
        with suppress(OSError):
            if ends:
                conn.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while part := conn.recv(65536):
                answer += part
        return answer


@pytest.mark.parametrize(
    ("status", "request_bytes"),
    [
        (400, b"GARBAGE\r\n\r\n"),
        (400, b"GET / HTTP/9.9\r\n\r\n"),
        (414, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n"),
        (400, b"POST /api/v1/requests HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\nTransfer-Encoding: pigeon\r\n\r\n"),
    ],
)
def test_what_is_no_http_is_a_problem_too(
    server: Server, status: int, request_bytes: bytes
) -> None:
    head, _, body = raw_request(server, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/problem+json" in head
    problem = json.loads(body)
    assert problem["status"] == status
    assert f"X-Request-ID: {problem['request_id']}".encode() in head
    logged = [line for line in server.lines() if line.get("request_id") == problem["request_id"]]
    assert "Invalid request" in logged[0]["message"]
    assert requests.get(f"{server.url}/health", timeout=5).ok


def test_validation_holds_nobody_up(
    server: Server, session: requests.Session, tenant: Any, body: Callable[..., Any]
) -> None:
    """Sources are read in processes of their own; the API's serve others meanwhile."""
    headers = {"X-Auth-Token": tenant.token}
    long = "def transform(data):\n" + "".join(
        f"    a{n} = [x for x in data if x != {n}]\n" for n in range(1200)
    )

    def create(n: int) -> int:
        code = f"{long}    return {n}\n"
        return requests.post(
            f"{server.url}/api/v1/utils", json=body(code=code), headers=headers, timeout=60
        ).status_code

    def execute(url: str) -> float:
        began = time.monotonic()
        answered = session.post(f"{server.url}{url}", json={"input": 1}, timeout=20)
        assert answered.status_code == 202
        return time.monotonic() - began

    util = session.post(f"{server.url}/api/v1/utils", json=body(), timeout=20).json()
    execute(util["links"]["execute"])
    with ThreadPoolExecutor(12) as pool:
        creating = [pool.submit(create, n) for n in range(12)]
        taken = [execute(util["links"]["execute"])]
        while not all(future.done() for future in creating):
            taken.append(execute(util["links"]["execute"]))
        statuses = {future.result() for future in creating}

    assert statuses <= {201, 422, 503}
    assert len(taken) > 5
    assert sorted(taken)[len(taken) // 2] < 0.5
    assert max(taken) < 3


def test_faulty_settings_are_all_told_in_a_line_of_the_log() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CSB_")}
    command = [sys.executable, "-m", "gunicorn", "-c", "python:api_service.gunicorn_conf"]
    ended = subprocess.run(
        [*command, "api_service.wsgi:app"],
        env={**environ, "CSB_REDIS_URL": "http://redis"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, b"")
    line = json.loads(ended.stdout)
    assert (line["service"], line["message"]) == ("api-service", "process.not_configured")
    for name in ("CSB_DATABASE_URL", "CSB_REDIS_URL"):
        assert name in line["context"]["reason"]
