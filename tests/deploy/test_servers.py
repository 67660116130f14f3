"""An installation on real servers: what the Secrets open, and what the charts ask of the stores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
import redis
from click.testing import CliRunner
from tests.deploy.charts import HELM, of_kind, rendered
from tests.deploy.installed import Installed, api, installed

from csb_core import leases, requests, schema_version
from csb_core.cache import StatusCache
from csb_core.ctl import main as csbctl
from csb_core.leases import Candidate, End
from csb_core.queue import Queue
from csb_core.states import Status
from csb_core.testing import ACCOUNT, make_api_key, make_draft, make_tenant

SERVICES: Final = ("csb-api-service", "csb-worker-aws", "csb-worker-sandbox")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with installed(tmp_path_factory.mktemp("installed")) as found:
        assert found.migrate()
        yield found


@pytest.fixture
def tenant(stores: Installed) -> UUID:
    return make_tenant(stores.url("csb-csbctl", "CSB_ADMIN_DATABASE_URL"))


@pytest.mark.parametrize("secret", SERVICES)
def test_every_service_finds_its_schema_with_its_own_secret(stores: Installed, secret: str) -> None:
    arguments = ["--actor", "test", "schema", "wait", "--timeout", "0", "--json"]
    done = CliRunner().invoke(csbctl, arguments, env=dict(stores.secrets[secret]))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["applied"] == schema_version.NEEDED


def test_maintenance_runs_with_its_secret(stores: Installed) -> None:
    arguments = ["--actor", "maintenance", "maintain", "--json"]
    done = CliRunner().invoke(csbctl, arguments, env=dict(stores.secrets["csb-csbctl"]))
    assert done.exit_code == 0, done.output


def test_no_two_passwords_are_one(stores: Installed) -> None:
    passwords = [*stores.secrets["csb-roles"].values(), stores.secrets["csb-postgres"]["password"]]
    passwords.append(stores.secrets["csb-redis"]["password"])
    assert len(passwords) == len(set(passwords)) == 8
    assert all(len(password) >= 43 for password in passwords)


def test_redis_lets_in_whoever_has_the_password_and_nobody_else(stores: Installed) -> None:
    url = stores.url("csb-worker-aws", "CSB_REDIS_URL")
    password = stores.secrets["csb-redis"]["password"]
    assert password not in stores.secrets["csb-redis"]["users.acl"]
    with redis.Redis.from_url(url) as client:
        assert client.ping()
    for wrong in (url.replace(password, "x"), f"redis://127.0.0.1:{stores.redis_port}/0"):
        with redis.Redis.from_url(wrong) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_what_services_do_in_redis_is_allowed(stores: Installed, tenant: UUID) -> None:
    with redis.Redis.from_url(stores.url("csb-worker-aws", "CSB_REDIS_URL")) as client:
        queue = Queue(client, "aws")
        queue.ping()
        client.lpush("queue:aws", b"not ours")
        assert queue.standing().depth == 1
        StatusCache(client, budget_bytes=1).forget([(tenant, 2)])
        assert client.info("memory")
        with client.pubsub() as pubsub:
            pubsub.subscribe("csb:test")
            client.publish("csb:test", b"x")
        client.delete("queue:aws")


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("KEYS", "*"),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("DEBUG", "SLEEP", "0"),
    ],
    ids=" ".join,
)
def test_what_no_service_does_in_redis_is_refused(
    stores: Installed, command: tuple[str, ...]
) -> None:
    with redis.Redis.from_url(stores.url("csb-worker-aws", "CSB_REDIS_URL")) as client:
        with pytest.raises(redis.ResponseError, match="no permissions"):
            client.execute_command(*command)
        assert client.ping()


def _autoscaled(provider: str) -> tuple[str, int]:
    """The query that KEDA asks for a provider's workers, and for how many requests a pod is."""
    manifests = rendered(preset="ha")
    for scaled in of_kind(manifests, "ScaledObject"):
        if scaled["metadata"]["name"] == f"csecbridge-worker-{provider}":
            (trigger,) = scaled["spec"]["triggers"]
            assert trigger["type"] == "postgresql"
            return trigger["metadata"]["query"], int(trigger["metadata"]["targetQueryValue"])
    raise AssertionError(provider)


def _counted(stores: Installed, provider: str) -> int:
    with psycopg.connect(stores.url(f"csb-worker-{provider}")) as conn:
        row = conn.execute(_autoscaled(provider)[0].encode()).fetchone()
    assert row is not None
    return int(row[0])


def _end(lease: Any) -> End:
    return End(
        correlation_id=lease.correlation_id,
        token=lease.token,
        status=Status.SUCCESS,
        result={"dry_run": True},
        changed=False,
        error=None,
        wait=None,
        counts_as_retry=False,
        checkpoint=None,
        refs=(),
    )


def test_the_autoscaler_counts_what_waits_and_what_is_in_hand(
    stores: Installed, tenant: UUID
) -> None:
    assert _counted(stores, "aws") == _counted(stores, "sandbox") == 0
    drafts = [make_draft(tenant) for _ in range(5)]
    with psycopg.connect(stores.url("csb-api-service"), autocommit=True) as conn:
        requests.insert(conn, drafts)
    assert _counted(stores, "aws") == 5
    with psycopg.connect(stores.url("csb-worker-aws"), autocommit=True) as conn:
        wanted = [Candidate(correlation_id=d.correlation_id, digest=d.digest) for d in drafts]
        taken = leases.claim(conn, wanted[:3], worker="w", ttl=timedelta(seconds=30))
        assert len(taken) == 3
        assert _counted(stores, "aws") == 5, "in hand, and out of every list"
        leases.record(conn, [_end(lease) for lease in taken], worker="w")
        assert _counted(stores, "aws") == 2
        assert _counted(stores, "sandbox") == 0, "a worker's role sees its provider's rows"
        leases.record(
            conn,
            [
                _end(lease)
                for lease in leases.claim(conn, wanted, worker="w", ttl=timedelta(seconds=30))
            ],
            worker="w",
        )
    assert _counted(stores, "aws") == 0


def test_a_pod_is_for_most_of_its_slots() -> None:
    assert _autoscaled("aws")[1] == 2 * 40 * 70 // 100
    assert _autoscaled("sandbox")[1] == 4 * 70 // 100


def _end_whatever_comes(stores: Installed, stop: threading.Event) -> None:
    """Stand in for the AWS worker: end each request as a dry run ends."""
    url = stores.url("csb-worker-aws")
    with (
        psycopg.connect(url, autocommit=True) as conn,
        redis.Redis.from_url(stores.url("csb-worker-aws", "CSB_REDIS_URL")) as client,
    ):
        while not stop.wait(0.2):
            rows = conn.execute(
                "SELECT correlation_id, digest FROM csb_app.csb_requests WHERE status = 'PENDING'"
            ).fetchall()
            wanted = [Candidate(correlation_id=row[0], digest=row[1]) for row in rows]
            taken = leases.claim(conn, wanted, worker="w", ttl=timedelta(seconds=30))
            ended = leases.record(conn, [_end(lease) for lease in taken], worker="w")
            if ended:
                moved = [(one, recorded.version) for one, recorded in ended.items()]
                StatusCache(client, budget_bytes=2**28).forget(moved)


def _smoke(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(HELM / "csecbridge/files/smoke.py")],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


def test_helm_test_follows_a_dry_run_to_its_end(
    stores: Installed, tenant: UUID, tmp_path: Path
) -> None:
    """The program of the pod against the API with the chart's settings; a test ends the request."""
    token = make_api_key(stores.url("csb-csbctl", "CSB_ADMIN_DATABASE_URL"), tenant)
    with api(stores, tmp_path) as service:
        about = {
            "CSB_URL": f"http://127.0.0.1:{service.port}",
            "CSB_TOKEN": token,
            "SMOKE_SECONDS": "40",
            "SMOKE_ACCOUNT": ACCOUNT,
            "SMOKE_PRINCIPAL_TYPE": "user",
            "SMOKE_PRINCIPAL": "alice",
        }
        stop = threading.Event()
        worker = threading.Thread(target=_end_whatever_comes, args=(stores, stop))
        worker.start()
        try:
            done = _smoke(about)
        finally:
            stop.set()
            worker.join()
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"status": "SUCCESS"' in done.stdout

        began = time.monotonic()
        unended = _smoke({**about, "SMOKE_SECONDS": "1"})
        assert unended.returncode == 1
        assert "it is still PENDING" in unended.stderr
        assert time.monotonic() - began < 30

        refused = _smoke({**about, "CSB_TOKEN": "csb_000000000000_" + "0" * 43})
        assert refused.returncode == 1
        assert "401" in refused.stderr

        only_ready = _smoke({"CSB_URL": about["CSB_URL"], "SMOKE_SECONDS": "10"})
        assert only_ready.returncode == 0
        assert "ready" in only_ready.stdout


def test_helm_test_fails_where_nobody_answers() -> None:
    done = _smoke({"CSB_URL": "http://127.0.0.1:1", "SMOKE_SECONDS": "1"})
    assert done.returncode == 1
    assert "127.0.0.1:1/ready" in done.stderr
