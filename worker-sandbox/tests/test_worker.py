"""The worker as it is run: gunicorn, PostgreSQL, Redis and real jails, from the row to its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from csb_core import keys
from csb_core.db import tenant_transaction
from csb_core.models import Json, Request, UtilLimits
from csb_core.states import FINAL, Status
from csb_core.testing import Database, as_tenant

pytestmark = pytest.mark.timeout(180)

#: How the worker's pod runs it; see test_pod_profile.py.
CONFINE = Path(__file__).with_name("confine.py")
PROFILE = Path(__file__).parents[2] / "helm/worker/files/seccomp/csb-sandbox.json"
PYTHON = Path("/usr/bin/python3.11" if os.geteuid() == 0 else sys.executable)
USER = "10001"

ECHO = "def transform(data):\n    return data\n"
SLEEP = "import time\ndef transform(data):\n    time.sleep(data)\n    return 'slept'\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Worker:
    """A gunicorn of the sandbox worker, and what it says of itself."""

    def __init__(
        self,
        database: Database,
        redis_url: str,
        *,
        python: Sequence[str] = (sys.executable,),
        **more: str,
    ) -> None:
        self.bind, self.metrics_bind = (f"127.0.0.1:{free_port()}" for _ in range(2))
        env = {name: value for name, value in os.environ.items() if not name.startswith("CSB_")}
        env |= {
            "CSB_DATABASE_URL": database.sandbox,
            "CSB_REDIS_URL": redis_url,
            "CSB_BIND": self.bind,
            "CSB_METRICS_BIND": self.metrics_bind,
            "CSB_BLOCK_SECONDS": "0.5",
            **more,
        }
        command = [*python, "-m", "gunicorn", "-c", "python:worker_sandbox.gunicorn_conf"]
        self.process = subprocess.Popen([*command, "worker_sandbox.main:app"], env=env)

    def ready(self) -> Json:
        """The answer of /ready; empty when nothing answers."""
        try:
            with urllib.request.urlopen(f"http://{self.bind}/ready", timeout=5) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as exc:
            return dict(json.load(exc))
        except (urllib.error.URLError, ConnectionError):
            return {}

    def is_ready(self) -> bool:
        return self.ready().get("status") == "ready"

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.metrics_bind}/metrics", timeout=5) as answer:
            return bytes(answer.read()).decode()

    def consumers(self) -> list[int]:
        """The processes under the master."""
        return children(self.process.pid)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def readable_by_all(*paths: str) -> bool:
    """Whether any user may enter these folders."""
    folders = {folder for path in paths for folder in (Path(path), *Path(path).parents)}
    return all(folder.stat().st_mode & 0o001 for folder in folders)


def children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(c) for one in threads for c in (one / "children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [deeper for child in found for deeper in descendants(child)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def until(look: Callable[[], Any], *, seconds: float = 30) -> Any:
    """What `look` gives, as soon as it gives something."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def end_of(tenant: Any, correlation_id: UUID, *, seconds: float = 60) -> Request:
    def look() -> Request | None:
        request: Request = tenant.request(correlation_id)
        return request if request.status in FINAL else None

    ended: Request = until(look, seconds=seconds)
    return ended


def trail(tenant: Any, correlation_id: UUID) -> list[str]:
    with tenant_transaction(tenant.api, tenant.tenant_id) as conn:
        rows = conn.execute(
            """
            SELECT to_status
              FROM csb_app.csb_requests_audit
             WHERE correlation_id = %s AND to_status IS NOT NULL
             ORDER BY audit_id
            """,
            (correlation_id,),
        ).fetchall()
    return [row[0] for row in rows]


@pytest.fixture
def start(database: Database, redis_url: str) -> Iterator[Callable[..., Worker]]:
    """Starts a worker, and waits until it is ready; all are ended at the end."""
    started: list[Worker] = []

    def made(*, wait: bool = True, **more: Any) -> Worker:
        worker = Worker(database, redis_url, **more)
        started.append(worker)
        if wait:
            until(worker.is_ready, seconds=60)
        return worker

    yield made
    for worker in started:
        worker.end()


def test_from_the_row_to_its_end(start: Callable[..., Worker], tenants: tuple[Any, Any]) -> None:
    worker = start()
    first, second = tenants
    ours, theirs = first.util(ECHO), second.util("def transform(data):\n    return 'theirs'\n")

    done = end_of(first, first.submit(ours, {"a": 1}))
    assert (done.status, done.changed, done.error) == (Status.SUCCESS, False, None)
    assert done.result is not None
    assert done.result["value"] == {"a": 1}
    assert trail(first, done.correlation_id) == ["PENDING", "IN_PROGRESS", "SUCCESS"]

    other = end_of(second, second.submit(theirs, {"a": 1}))
    assert other.result is not None
    assert other.result["value"] == "theirs"

    broken = first.util("def transform(data):\n    print('so far')\n    return data['b']\n")
    failed = end_of(first, first.submit(broken, {"a": 1}))
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert (failed.error["class"], failed.error["retryable"]) == ("UTIL_ERROR", False)
    assert failed.result is not None
    assert failed.result["stdout"] == "so far\n"

    text = worker.metrics()
    labels = f'status="success",tenant_id="{first.tenant_id}",util_id="{ours}"'
    assert f"utils_executed_total{{{labels}}} 1.0" in text
    assert f'execution_duration_seconds_count{{tenant_id="{first.tenant_id}"' in text
    assert "\nactive_containers 0.0" in text
    assert 'csb_util_cache_total{level="store",result="hit"}' in text


@pytest.mark.skipif(not PYTHON.exists(), reason="no Python that every user may read")
@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_it_works_as_its_pod_runs_it(
    start: Callable[..., Worker], tenants: tuple[Any, Any], tmp_path: Path, tier: str
) -> None:
    """An ordinary user without a capability, under the seccomp profile of the chart."""
    packages = [path for path in sys.path if "/site-packages" in path or path.endswith("/src")]
    if not readable_by_all(*packages):
        pytest.skip("the checkout lies where only its owner may read")
    confine = tmp_path / "confine.py"
    shutil.copy(CONFINE, confine)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    # What redis asks of a Python before 3.11.3, as Debian's is.
    (tmp_path / "async_timeout.py").write_text("from asyncio import timeout")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    scratch.chmod(0o777)
    start(
        python=(str(PYTHON), str(confine), str(PROFILE), USER, str(PYTHON)),
        PYTHONPATH=":".join([*packages, str(tmp_path)]),
        CSB_SANDBOX_FLOOR=tier,
        CSB_SANDBOX_TIER=tier,
        CSB_SANDBOX_SCRATCH=str(scratch),
    )
    writes = "def main(p):\n    open('x', 'w').write(p)\n    return open('x').read()"
    util = tenants[0].util(writes, kind="script")
    done = end_of(tenants[0], tenants[0].submit(util, "kept"))
    assert done.result is not None
    assert (done.result["value"], done.result["sandbox"]["tier"]) == ("kept", tier)


def test_what_it_says_of_itself(start: Callable[..., Worker], tenant: Any) -> None:
    start(CSB_SANDBOX_MAX_TIMEOUT_SECONDS="20")
    told = json.loads(tenant.bell.redis.get(keys.sandbox_runtime()))
    assert told["python"].startswith("3.")
    assert told["packages"] == {}
    assert told["tier"] in {"namespaces", "landlock"}
    assert told["layers"]
    assert told["self_test"]["held"] is True
    assert "breached" not in told["self_test"]["attacks"].values()
    assert told["limits"]["max_timeout_seconds"] == 20
    assert 0 < tenant.bell.redis.ttl(keys.sandbox_runtime()) <= 60


def test_below_its_floor_it_takes_no_work_and_says_why(
    start: Callable[..., Worker], tenant: Any
) -> None:
    """It is told to build what is weaker than what it is told to accept."""
    settings = {"CSB_SANDBOX_TIER": "landlock", "CSB_SANDBOX_FLOOR": "namespaces"}
    worker = start(wait=False, **settings)
    checks = until(lambda: worker.ready().get("checks"), seconds=60)
    assert "sandbox" in checks["configuration"]
    waiting = tenant.submit(tenant.util(ECHO), 1)
    time.sleep(3)
    request = tenant.request(waiting)
    assert (request.status, request.attempt) == (Status.PENDING, 0)
    assert worker.ready()["status"] == "unready"


def test_many_small_ones_at_once(start: Callable[..., Worker], tenants: tuple[Any, Any]) -> None:
    worker = start()
    utils = [tenant.util(ECHO) for tenant in tenants]
    drafts = [
        [tenant.accepted(util, n) for n in range(500)]
        for tenant, util in zip(tenants, utils, strict=True)
    ]
    for tenant, theirs in zip(tenants, drafts, strict=True):
        tenant.ring(*theirs)

    def left() -> int:
        with as_tenant(tenants[0].database.superuser, tenants[0].tenant_id) as conn:
            row = conn.execute(
                """
                SELECT count(*)
                  FROM csb_app.csb_requests
                 WHERE status IN ('PENDING', 'IN_PROGRESS')
                """
            ).fetchone()
        assert row is not None
        return int(row[0])

    until(lambda: not left(), seconds=120)
    for tenant, theirs in zip(tenants, drafts, strict=True):
        for n, draft in enumerate(theirs):
            request = tenant.request(draft.correlation_id)
            assert (request.status, request.attempt) == (Status.SUCCESS, 1)
            assert request.result is not None
            assert request.result["value"] == n
    assert "\nactive_containers 0.0" in worker.metrics()


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_a_worker_killed_in_the_middle_leaves_nothing_and_loses_nothing(
    start: Callable[..., Worker], tenant: Any, seconds: int
) -> None:
    worker = start(CSB_LEASE_SECONDS="2", CSB_HEARTBEAT_SECONDS="0.5")
    (consumer,) = worker.consumers()
    limits = UtilLimits(timeout_seconds=90, memory_limit_mb=64, cpu_limit=1.0)
    slow = tenant.submit(tenant.util(SLEEP), seconds, limits=limits)
    until(lambda: tenant.request(slow).status is Status.IN_PROGRESS)
    until(lambda: "\nactive_containers 1.0" in worker.metrics())
    before = descendants(consumer)
    assert before

    os.kill(consumer, signal.SIGKILL)

    until(lambda: not any(alive(pid) for pid in before), seconds=5)
    done = end_of(tenant, slow, seconds=seconds + 30)
    assert (done.status, done.attempt) == (Status.SUCCESS, 2)
    moves = Counter(trail(tenant, slow))
    assert moves == {"PENDING": 2, "IN_PROGRESS": 2, "SUCCESS": 1}
    assert "\nactive_containers 0.0" in worker.metrics()


def test_sigterm_lets_what_is_in_hand_end(start: Callable[..., Worker], tenant: Any) -> None:
    worker = start()
    running = tenant.submit(tenant.util(SLEEP), 3)
    until(lambda: tenant.request(running).status is Status.IN_PROGRESS)
    family = descendants(worker.process.pid)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=30) == 0
    done = tenant.request(running)
    assert (done.status, done.attempt) == (Status.SUCCESS, 1)
    assert not any(alive(pid) for pid in family)


def test_what_does_not_end_in_the_grace_period_is_given_back(
    start: Callable[..., Worker], tenant: Any
) -> None:
    worker = start(CSB_GRACE_SECONDS="4")
    limits = UtilLimits(timeout_seconds=60, memory_limit_mb=64, cpu_limit=1.0)
    running = tenant.submit(tenant.util(SLEEP), 50, limits=limits)
    until(lambda: tenant.request(running).status is Status.IN_PROGRESS)
    family = descendants(worker.process.pid)
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=30) == 0
    assert time.monotonic() - began < 10
    given_back = tenant.request(running)
    assert given_back.status is Status.PENDING
    assert given_back.error is None
    assert given_back.available_at - given_back.updated_at < timedelta(seconds=1)
    assert not any(alive(pid) for pid in family)


def test_without_redis_it_works_on(start: Callable[..., Worker], tenant: Any) -> None:
    """What it has popped is executed and recorded; the code comes from PostgreSQL."""
    start()
    slow = tenant.submit(tenant.util(SLEEP), 2)
    until(lambda: tenant.request(slow).status is Status.IN_PROGRESS)
    tenant.bell.redis.execute_command("CLIENT", "PAUSE", 4000, "ALL")
    done = end_of(tenant, slow)
    assert (done.status, done.attempt) == (Status.SUCCESS, 1)
