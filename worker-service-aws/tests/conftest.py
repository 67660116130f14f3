"""A local AWS over HTTP for the run, and what a test asks of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from csb_core.models import Lease, Target
from csb_core.testing import database, postgres, redis_server, redis_url, template
from csb_core.worker.action import Action
from worker_service_aws.actions.catalogue import build_actions
from worker_service_aws.clients import Aws
from worker_service_aws.local_aws.demo_seed import (
    PLATFORM_KEY_ID,
    PLATFORM_SECRET,
    executor_arn,
)
from worker_service_aws.settings import AwsSettings

__all__ = ["database", "postgres", "redis_server", "redis_url", "template"]

ACCOUNT = "111122223333"
SESSION: Any = boto3.Session()
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@cache
def _client(url: str, service: str, key: str, secret: str, **more: Any) -> Any:
    return SESSION.client(
        service,
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
        **more,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAws:
    """The local AWS, seen from outside: its accounts' roots, its faults and its journal."""

    url: str

    def client(self, service: str, *, key: str = ACCOUNT, secret: str = "x", **more: Any) -> Any:
        return _client(self.url, service, key, secret, **more)

    def platform(self, service: str = "sts") -> Any:
        return self.client(service, key=PLATFORM_KEY_ID, secret=PLATFORM_SECRET)

    def order(self, operation: str, kind: str, **more: Any) -> None:
        self._ask("POST", "/_csb/faults", {"operation": operation, "kind": kind, **more})

    def log(self, **wanted: str) -> Any:
        return self._ask("GET", f"/_csb/log?{urlencode(wanted)}")

    def clear(self) -> None:
        self._ask("DELETE", "/_csb/faults")
        self._ask("DELETE", "/_csb/log")

    def attached(self, kind: str, name: str) -> set[str]:
        ask = getattr(self.client("iam"), f"list_attached_{kind}_policies")
        answer = ask(**{f"{kind.title()}Name": name})
        return {one["PolicyArn"] for one in answer["AttachedPolicies"]}

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@dataclass(slots=True)
class Attempt:
    """The worker's side of an attempt, which keeps what it was told and in which order."""

    events: list[str] = field(default_factory=list)
    kept: dict[str, Any] | None = None
    meanwhile: Callable[[], object] = lambda: None

    def require_lease(self) -> None:
        self.events.append("lease")
        self.meanwhile()

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.events.append("checkpoint")
        self.kept = state


@pytest.fixture(scope="session")
def local_aws() -> Iterator[LocalAws]:
    command = [sys.executable, "-m", "worker_service_aws.local_aws", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("local_aws ready "), ready
        try:
            yield LocalAws(url=ready.split()[-1])
        finally:
            process.terminate()


@pytest.fixture
def aws_calls(local_aws: LocalAws) -> LocalAws:
    """The local AWS with an empty journal and no faults."""
    local_aws.clear()
    return local_aws


@pytest.fixture(scope="session")
def environment() -> Iterator[str]:
    """The platform's identity, and nothing of the machine's own AWS settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [one for one in os.environ if one.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", PLATFORM_KEY_ID)
        patch.setenv("AWS_SECRET_ACCESS_KEY", PLATFORM_SECRET)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield PLATFORM_KEY_ID


@pytest.fixture(scope="session")
def settings(local_aws: LocalAws) -> AwsSettings:
    return AwsSettings(
        region="eu-west-1", endpoint_url=local_aws.url, verify_waits=(0.0, 0.05, 0.1)
    )


@pytest.fixture(scope="session")
def aws(environment: str, settings: AwsSettings) -> Aws:
    assert os.environ["AWS_ACCESS_KEY_ID"] == environment
    return Aws(settings)


@pytest.fixture(scope="session")
def actions(aws: Aws, settings: AwsSettings) -> dict[str, Action]:
    return dict(build_actions(aws, settings))


@pytest.fixture
def attempt() -> Attempt:
    return Attempt()


@pytest.fixture
def make_lease() -> Callable[..., Lease]:
    base = Lease(
        correlation_id=uuid4(),
        tenant_id=uuid4(),
        version=2,
        cloud_provider="aws",
        action="attach_policy",
        account_id=ACCOUNT,
        principal={"type": "user", "name": "alice"},
        parameters={"policy_arn": READ_ONLY},
        dry_run=False,
        payload={},
        attempt=1,
        retries=0,
        max_attempts=5,
        token=1,
        traceparent=None,
        requested_by="key:test",
        request_id="req-test",
        checkpoint=None,
        target=Target(
            account_id=ACCOUNT,
            role_arn=executor_arn(ACCOUNT),
            external_id=f"local-{ACCOUNT}",
        ),
    )

    def make(kind: str = "user", name: str = "alice", **changes: Any) -> Lease:
        return replace(base, principal={"type": kind, "name": name}, **changes)

    return make


@pytest.fixture
def new_principal(local_aws: LocalAws) -> Callable[[str], str]:
    """Make a user, role or group that no other test touches."""
    iam = local_aws.client("iam")

    def make(kind: str) -> str:
        name = f"{kind}-{uuid4().hex[:10]}"
        more = {"AssumeRolePolicyDocument": "{}"} if kind == "role" else {}
        getattr(iam, f"create_{kind}")(Path="/made/", **{f"{kind.title()}Name": name}, **more)
        return name

    return make
