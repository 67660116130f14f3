"""Real lines: what the services say while they work, as a container runtime writes it down.

python -m tests.logs.services records tests/logs/golden/lines anew, but for what was made by hand.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.chaos.client import Client
from tests.chaos.patience import until
from tests.chaos.platform import BRISK, Platform, build
from tests.house import ROOT

from csb_core import testing
from csb_core.local import client as http
from csb_core.local import postgres
from csb_core.local.util_loading import UTILS, load
from csb_core.local.util_scenes import NAUGHTY, REFUSED
from csb_core.queue import Queue

GOLDEN: Final = ROOT / "tests/logs/golden"

#: A runtime writes no more of a line at once.
RUNTIME_SPLITS_AT: Final = 16_384

#: What the services are called where they are recorded, and in the cluster: component, container.
PODS: Final[Mapping[str, tuple[str, str]]] = {
    "api-service": ("api-service", "api-service"),
    "worker-service-aws": ("worker-aws", "worker"),
    "worker-sandbox": ("worker-sandbox", "worker"),
}

_PATIENCE: Final = timedelta(seconds=30)
_TIME: Final = re.compile(rb'^\{"timestamp":"([0-9TZ:.-]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of the cluster that the recording stands for."""

    component: str
    container: str
    suffix: str = "6f7d9c8b5-x2x4q"

    @property
    def name(self) -> str:
        return f"csb-{self.component}-{self.suffix}"

    @property
    def path(self) -> str:
        """The file of its container on the node."""
        number = sha256(self.name.encode()).hexdigest()
        return f"/var/log/containers/{self.name}_csb-app_{self.container}-{number}.log"


def pod_of(service: str) -> Pod:
    """The pod that a service's lines come from."""
    component, container = PODS[service]
    return Pod(component=component, container=container)


def written(text: bytes, *, stream: str = "stdout") -> bytes:
    """What a runtime writes into its file for what a container says."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = bytearray()
    for line in text.splitlines():
        if own := _TIME.match(line):
            at = max(at, datetime.fromisoformat(own[1].decode()))
        at += timedelta(microseconds=7)
        stamp = at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "321Z"
        parts = [line[n : n + RUNTIME_SPLITS_AT] for n in range(0, len(line), RUNTIME_SPLITS_AT)]
        for number, part in enumerate(parts or [b""], start=1):
            mark = "F" if number == max(len(parts), 1) else "P"
            found += f"{stamp} {stream} {mark} ".encode() + part + b"\n"
    return bytes(found)


@contextmanager
def platform() -> Iterator[Platform]:
    """The three services under the names that they have in a cluster, on servers of their own."""
    with tempfile.TemporaryDirectory(prefix="csb-logs-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "platform").mkdir()
        server = postgres.start(folder / "postgres")
        try:
            with testing.cloned(server.url, testing.migrated(server.url)) as database:
                made = build(folder / "platform", server, database, users=20)
                try:
                    _start(made)
                    yield made
                finally:
                    made.end()
        finally:
            server.stop("immediate")


def _start(platform: Platform) -> None:
    stores = {"CSB_REDIS_URL": platform.redis.url, **BRISK}
    platform._add(
        "api-service",
        "api_service.gunicorn_conf",
        "api_service.wsgi:app",
        {**stores, "CSB_DATABASE_URL": platform.database.api, "CSB_API_PROCESSES": "1"},
    )
    platform.add_worker("worker-service-aws", CSB_PROCESSES="1", CSB_SLOTS="4", **BRISK)
    platform._add(
        "worker-sandbox",
        "worker_sandbox.gunicorn_conf",
        "worker_sandbox.main:app",
        {**stores, "CSB_DATABASE_URL": platform.database.sandbox, "CSB_PROCESSES": "1"},
    )
    platform.await_ready()


def lines_of_a_day(platform: Platform) -> dict[str, bytes]:
    """Let every kind of thing happen that somebody may search for; return each service's lines."""
    service = platform.services["api-service"]
    caller = Client(
        port=service.port, token=platform.token, account=testing.ACCOUNT, pairs=platform.pairs
    )
    caller.attach()
    caller.ask(caller.new_body(user="nobody-there"))
    caller.ask(_refused_by_aws(platform, caller))
    caller.call("GET", "/api/v1/requests/no-such-request", None)
    replace(caller, token=f"{platform.token[:-4]}nope").call("GET", "/api/v1/requests", None)
    with platform.bell() as redis:
        Queue(redis, "aws").publish([b"no message of ours"])
    _run_utils(http.Client(url=service.url, headers={"X-Auth-Token": platform.token}))
    until(lambda: _all_has_ended(platform), _PATIENCE, "everything has ended")
    return {name: one.log.read_bytes() for name, one in platform.services.items()}


def _refused_by_aws(platform: Platform, caller: Client) -> Mapping[str, object]:
    body = caller.new_body()
    refusal = {
        "operation": "AttachUserPolicy",
        "kind": "error",
        "code": "AccessDenied",
        "status": 403,
        "message": "User is not authorized to perform: iam:AttachUserPolicy",
        "principal": body["principal"]["name"],
    }
    platform.aws("POST", "faults", refusal)
    return body


def _run_utils(api: http.Client) -> None:
    """One that the validator refuses, one that is killed for its time, one that fails by itself."""
    api.refused(UTILS, dict(REFUSED))
    utils = load(api, NAUGHTY)
    for name, given in (("demo_slow", {"numbers": 10**15}), ("demo_curious", {"path": "/secret"})):
        api.post(f"{UTILS}/{utils[name]}/execute?wait=20", {"input": given})


def _all_has_ended(platform: Platform) -> bool:
    """Whether every request has, and every end has its line, and the bad message has its own."""
    with platform.truth() as conn:
        rows = conn.execute("SELECT status, correlation_id FROM csb_app.csb_requests").fetchall()
    said = b"".join(service.log.read_bytes() for service in platform.services.values())
    ends = {
        line["correlation_id"]
        for line in map(json.loads, filter(None, said.splitlines()))
        if line["message"] == "request.ended"
    }
    return ends == {str(row[1]) for row in rows} and b"security.message_unreadable" in said


def main() -> None:
    """Record."""
    folder = GOLDEN / "lines"
    with platform() as running:
        for service, said in lines_of_a_day(running).items():
            path = folder / Path(pod_of(service).path).name
            path.write_bytes(written(said))
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
