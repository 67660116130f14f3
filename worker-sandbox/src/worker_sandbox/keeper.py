"""Keeps the sandbox of a worker process: opens it, examines it, lends it, and tells of it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import orjson
import redis

from csb_core import keys, metrics
from csb_core.errors import ConfigurationError
from csb_core.models import Json
from csb_core.queue import Redis
from worker_sandbox.errors import SandboxUnavailable
from worker_sandbox.job import Job, Limits, Run
from worker_sandbox.meter import Meter
from worker_sandbox.run_util import Leaving
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.settings import JailSettings

logger = logging.getLogger(__name__)

#: How often the number of ready jails is read, and how often Redis is told what there is.
LOOK: Final = timedelta(seconds=1)
TELL: Final = timedelta(seconds=15)
#: Longer than it takes to tell again, even after an outage.
TOLD_FOR: Final = timedelta(seconds=60)

UNEXAMINED: Final = "the sandbox has not been examined yet"

#: What there is for a util to use, asked where utils are: in a jail.
INVENTORY: Final = Job(
    kind="transformer",
    code="""
import platform
from importlib.metadata import distributions

def modules(package):
    files = (file for file in package.files or () if file.suffix in {".py", ".so"})
    return sorted({file.parts[0].split(".")[0] for file in files})

def transform(data):
    packages = {
        package.metadata["Name"]: {"version": package.version, "modules": modules(package)}
        for package in distributions()
    }
    return {"python": platform.python_version(), "packages": packages}
""",
    input=None,
    limits=Limits(timeout_seconds=20, memory_limit_mb=256),
)


@dataclass(slots=True, kw_only=True)
class Keeper:
    """One per process. It is its own companion: `run` is a thread of the worker."""

    settings: JailSettings
    meter: Meter
    _redis: Redis | None = None
    _sandbox: Sandbox | None = None
    _unopened: str = UNEXAMINED
    _standing: Json | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _leaving: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        """Start the sandbox; why that was impossible is what `probe` raises."""
        with self._lock:
            if self._sandbox is not None or self._leaving.is_set():
                return
            try:
                self._sandbox = Sandbox.open(self.settings.sandbox())
            except SandboxUnavailable as exc:
                self._unopened = str(exc)

    def tell(self, client: Redis) -> None:
        """Tell this Redis what there is, from now on."""
        self._redis = client

    def probe(self) -> None:
        """Examine the sandbox; raises ConfigurationError while no code may be given to it.

        Nothing is taken from settings or the kernel's version: it attacks itself, in a jail.
        """
        self.open()
        sandbox = self._sandbox
        if sandbox is None:
            raise ConfigurationError(f"the sandbox cannot be opened: {self._unopened}")
        try:
            self._standing = self._examined(sandbox)
        except ConfigurationError:
            self._close()
            raise
        metrics.SANDBOX_FIT.labels(sandbox.tier.name).set(1)
        self._publish()

    def _examined(self, sandbox: Sandbox) -> Json:
        """Return what there is to tell; raises ConfigurationError."""
        report = sandbox.self_test()
        if not report.held:
            why = ", ".join(report.breaches) or "too few attacks could be tried at all"
            raise ConfigurationError(f"the sandbox failed its self-test: {why}")
        inventory = sandbox.run(INVENTORY)
        if inventory.error is not None and inventory.error["type"] == "ModuleNotFoundError":
            raise ConfigurationError(
                "jails cannot read the standard library, which lies below a directory of root's: "
                "give CSB_SANDBOX_PYTHON an interpreter that every user may read"
            )
        if inventory.exit_reason != "ok":
            raise ConfigurationError(f"the sandbox cannot run code: {inventory.error}")
        if self.settings.packages and not inventory.value["packages"]:
            # They lie, perhaps, below a directory that jails may not enter.
            logger.warning("sandbox.packages_unseen", extra={"path": str(self.settings.packages)})
        return {
            **inventory.value,
            "tier": sandbox.tier.name,
            "layers": list(sandbox.tier.layers),
            "self_test": report.document(),
            "limits": {
                "max_timeout_seconds": self.settings.max_timeout_seconds,
                "scratch_mb": sandbox.settings.scratch_mb,
                "scratch_files": sandbox.settings.scratch_files,
                "open_files": sandbox.settings.open_files,
                "threads": sandbox.settings.threads,
            },
        }

    def execute(self, work: Job) -> Run:
        """Have it run in a jail of its own.

        Raises Leaving when the worker ends first, ConfigurationError when there are no jails.
        """
        sandbox = self._sandbox
        if self._leaving.is_set():
            raise Leaving
        if sandbox is None:
            raise ConfigurationError("the sandbox is closed")
        if not sandbox.ready:
            metrics.SANDBOX_EMPTY.inc()
        with self.meter.running():
            run = sandbox.run(work)
        if run.exit_reason == "internal":
            if self._leaving.is_set():
                raise Leaving
            if not sandbox.ready:
                # Nobody's code is to blame: close until it works again, and burn no attempts.
                raise ConfigurationError(f"the sandbox has no jails: {run.error}")
        return run

    def run(self) -> None:
        """See `csb_core.worker.companion.Companion`."""
        told = time.monotonic()
        while not self._stopped.wait(LOOK.total_seconds()):
            sandbox = self._sandbox
            metrics.SANDBOX_READY.set(sandbox.ready if sandbox else 0)
            if time.monotonic() - told > TELL.total_seconds():
                told = time.monotonic()
                self._publish()

    def interrupt(self) -> None:
        """End every run: what they belong to is given back, and runs elsewhere."""
        self._leaving.set()
        self._close()

    def stop(self) -> None:
        """End the sandbox; its processes go with it."""
        self._stopped.set()
        self._leaving.set()
        self._close()

    def _close(self) -> None:
        with self._lock:
            sandbox, self._sandbox, self._standing = self._sandbox, None, None
        if sandbox is not None:
            metrics.SANDBOX_FIT.labels(sandbox.tier.name).set(0)
            sandbox.close()

    def _publish(self) -> None:
        """Tell Redis; when it is away, or we are unfit, what was told before expires."""
        standing = self._standing
        if standing is None or self._redis is None:
            return
        try:
            self._redis.set(keys.sandbox_runtime(), orjson.dumps(standing), ex=TOLD_FOR)
        except (redis.RedisError, OSError) as exc:
            logger.warning("sandbox.untold", extra={"reason": type(exc).__name__})
