"""The worker as it is run: gunicorn, PostgreSQL, Redis and AWS, from the row to its end."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from csb_core import ctl, requests
from csb_core.db import Pool, connection, open_pool, tenant_transaction
from csb_core.models import Json, Message, Request
from csb_core.queue import Queue, connect, encode
from csb_core.states import FINAL, Status
from csb_core.testing import Database, make_draft, make_tenant
from worker_service_aws.local_aws.demo_seed import (
    PLATFORM_KEY_ID,
    PLATFORM_SECRET,
    demo_seed,
    executor_arn,
)

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def worker(database: Database, redis_url: str, local_aws: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A running worker; ready when it is given out, ended by SIGTERM."""
    bind = f"127.0.0.1:{free_port()}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env |= {
        "CSB_DATABASE_URL": database.aws,
        "CSB_REDIS_URL": redis_url,
        "CSB_BIND": bind,
        "CSB_METRICS_BIND": f"127.0.0.1:{free_port()}",
        "CSB_PROCESSES": "1",
        "CSB_BLOCK_SECONDS": "0.5",
        "AWS_ENDPOINT_URL": local_aws.url,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": PLATFORM_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": PLATFORM_SECRET,
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "python:worker_service_aws.gunicorn_conf"]
    with subprocess.Popen([*command, "worker_service_aws.main:app"], env=env) as process:
        until(lambda: is_ready(bind))
        yield process
        process.send_signal(signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant, its account in the local AWS, and the store as the API sees it."""

    pool: Pool
    bell: Queue
    tenant_id: UUID
    code: str
    account_id: str
    iam: Any

    def submit(self, **payload: Any) -> UUID:
        draft = make_draft(self.tenant_id, account_id=self.account_id, **payload)
        with connection(self.pool) as conn:
            (accepted,) = requests.insert(conn, [draft])
        assert accepted.rung_at is not None
        message = Message(
            correlation_id=draft.correlation_id,
            tenant_id=draft.tenant_id,
            attempt=0,
            published_at=accepted.rung_at,
            traceparent=None,
            payload=draft.payload,
        )
        self.bell.publish([encode(message, draft.digest)])
        return draft.correlation_id

    def end_of(self, correlation_id: UUID) -> Request:
        def look() -> Request | None:
            with connection(self.pool) as conn:
                request = requests.get(conn, self.tenant_id, correlation_id)
            return request if request and request.status in FINAL else None

        found: Request = until(look)
        return found

    def refs(self, correlation_id: UUID) -> list[Json]:
        with tenant_transaction(self.pool, self.tenant_id) as conn:
            return requests.refs(conn, correlation_id) or []


@pytest.fixture
def tenant(database: Database, redis_url: str, local_aws: Any) -> Iterator[Tenant]:
    """A tenant whose account trusts the platform by the ExternalId of its registration."""
    account_id = f"{random.randrange(10**11, 10**12)}"
    code = f"t-{account_id}"
    tenant_id = make_tenant(database.admin, code, account_id=account_id)
    iam = local_aws.client("iam", key=account_id)
    accounts = demo_seed({account_id: f"csb-{tenant_id.hex}"})["accounts"]
    executor = next(one for one in accounts[account_id]["roles"] if one["name"] == "CSBExecutor")
    trust = json.dumps(executor["trust"])
    iam.create_role(RoleName="CSBExecutor", AssumeRolePolicyDocument=trust)
    for name, document in executor["inline_policies"].items():
        policy = json.dumps(document)
        iam.put_role_policy(RoleName="CSBExecutor", PolicyName=name, PolicyDocument=policy)
    iam.create_user(UserName="alice")

    seconds = timedelta(seconds=5)
    pool = open_pool(database.api, name="test", least=1, most=2, timeout=seconds)
    redis = connect(redis_url, timeout=seconds)
    yield Tenant(
        pool=pool,
        bell=Queue(redis, "aws"),
        tenant_id=tenant_id,
        code=code,
        account_id=account_id,
        iam=iam,
    )
    pool.close()
    redis.close()


def until(look: Any, *, seconds: float = 30) -> Any:
    """What `look` gives, as soon as it gives something."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def is_ready(bind: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{bind}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.mark.usefixtures("worker")
def test_from_the_row_to_its_end(tenant: Tenant, local_aws: Any) -> None:
    attached = tenant.submit()
    end = tenant.end_of(attached)

    assert (end.status, end.changed, end.error) == (Status.SUCCESS, True, None)
    policies = tenant.iam.list_attached_user_policies(UserName="alice")["AttachedPolicies"]
    assert [one["PolicyArn"] for one in policies] == [READ_ONLY]
    refs = tenant.refs(attached)
    assert {one["operation"] for one in refs if one["type"] == "aws_request_id"} == {
        "AssumeRole",
        "GetUser",
        "ListAttachedUserPolicies",
        "AttachUserPolicy",
    }
    assert [one["value"] for one in refs if one["type"] == "aws_assumed_role"] != []
    assert local_aws.log(session=f"csb-{attached}")["effects"] == {"AttachUserPolicy": 1}

    again = tenant.end_of(tenant.submit())
    assert (again.status, again.changed) == (Status.SUCCESS, False)

    plan = tenant.end_of(tenant.submit(action="detach_policy", dry_run=True))
    assert (plan.status, plan.changed) == (Status.SUCCESS, False)
    assert plan.result is not None
    assert plan.result["would_change"]

    nobody = tenant.end_of(tenant.submit(principal={"type": "user", "name": "nobody"}))
    assert nobody.status is Status.FAILED
    assert nobody.error is not None
    assert (nobody.error["class"], nobody.error["code"]) == ("NOT_FOUND", "NoSuchEntity")


@pytest.mark.usefixtures("worker")
def test_a_throttled_request_is_tried_again(tenant: Tenant, local_aws: Any) -> None:
    account = tenant.account_id
    local_aws.order("AttachUserPolicy", "throttle", account=account, times=3)

    end = tenant.end_of(tenant.submit())

    assert (end.status, end.changed, end.attempt) == (Status.SUCCESS, True, 2)
    log = local_aws.log(account=account, operation="AttachUserPolicy")
    assert (log["calls"], log["effects"]) == ({"AttachUserPolicy": 4}, {"AttachUserPolicy": 1})


@pytest.mark.usefixtures("worker")
def test_a_lost_answer_costs_no_attempt(tenant: Tenant, local_aws: Any) -> None:
    local_aws.order("AttachUserPolicy", "lost_answer", account=tenant.account_id)

    end = tenant.end_of(tenant.submit())

    assert (end.status, end.changed, end.attempt) == (Status.SUCCESS, True, 1)


@pytest.mark.usefixtures("worker")
def test_an_external_id_is_replaced_and_the_account_is_open_all_the_while(
    tenant: Tenant, local_aws: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSB_ADMIN_DATABASE_URL", database.admin)
    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.url)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", PLATFORM_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLATFORM_SECRET)

    def csbctl(noun: str, verb: str, *more: str) -> Result:
        args = ["--json", noun, verb, tenant.code, tenant.account_id, *more]
        return CliRunner().invoke(ctl.main, args)

    def rotate(*more: str) -> Json:
        answer = csbctl("account", "rotate", *more)
        assert answer.exit_code == 0, answer.output
        return dict(json.loads(answer.stdout))

    def paste(documents: Json) -> None:
        (trust,) = documents.values()
        tenant.iam.update_assume_role_policy(
            RoleName="CSBExecutor", PolicyDocument=json.dumps(trust)
        )

    def require_work() -> None:
        assert tenant.end_of(tenant.submit()).status is Status.SUCCESS

    begun = rotate()
    old, new = begun["external_id"], begun["new_external_id"]
    require_work()
    assert csbctl("account", "rotate", "--finish", new).exit_code == 1  # nothing was pasted yet
    require_work()
    paste(begun["documents"])
    require_work()
    finished = rotate("--finish", new)
    require_work()
    paste(finished["documents"])
    require_work()

    role = executor_arn(tenant.account_id)
    ask = {"RoleArn": role, "RoleSessionName": "look", "DurationSeconds": 900}
    sts = local_aws.platform()
    assert sts.assume_role(ExternalId=new, **ask)
    with pytest.raises(ClientError, match="AccessDenied"):
        sts.assume_role(ExternalId=old, **ask)


def test_it_ends_soon_after_sigterm(worker: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(timeout=30) == 0
    assert time.monotonic() - began < 10
