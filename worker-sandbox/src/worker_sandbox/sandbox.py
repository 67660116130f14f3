"""The sandbox of one worker process: give it a job, get its run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Final, Self

from worker_sandbox import judgement, self_test
from worker_sandbox.answers import Answer
from worker_sandbox.cgroups import Leaves
from worker_sandbox.errors import SandboxUnavailable
from worker_sandbox.jail.plan import Plan, TierName
from worker_sandbox.jails import Jail
from worker_sandbox.job import ExitReason, Fault, Job, Run
from worker_sandbox.pool import Held, Pool
from worker_sandbox.sandbox_settings import SandboxSettings
from worker_sandbox.scratch import Scratches
from worker_sandbox.self_test import SelfTest
from worker_sandbox.succession import Succession
from worker_sandbox.supervisor import Watch
from worker_sandbox.zygotes import ZygoteProcess

#: How many jails may die under a job before it is begun.
_TRIES: Final = 3
#: Strongest first.
TIERS: Final[tuple[TierName, ...]] = ("namespaces", "landlock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """How strong the jails are here, and of what layers."""

    name: TierName
    layers: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Sandbox:
    """One per process; every thread may call `run`."""

    settings: SandboxSettings
    tier: Tier
    _pool: Pool
    _scratches: Scratches | None
    _running: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @classmethod
    def open(cls, settings: SandboxSettings, *, without: tuple[str, ...] = ()) -> Self:
        """Find the strongest tier that works here, and fill the pool.

        `without` leaves layers out; only tests may, to see what a layer is for. Raises
        SandboxUnavailable when no tier works, or none that reaches the floor.
        """
        plan, zygote = _strongest(settings, without)
        leaves = Leaves.find() if settings.cgroups and "cgroups" not in without else None
        zygotes = Succession(
            start=lambda: ZygoteProcess.start(plan, settings.python, zygote.scratches),
            rotate_jails=settings.rotate_jails,
            rotate_seconds=settings.rotate_after.total_seconds(),
        )
        zygotes.begin(zygote)
        pool = Pool(
            zygotes=zygotes,
            size=settings.pool_size,
            leaves=leaves,
            tasks=settings.threads + 1,
        )
        layers = (*zygote.layers, "cgroups") if leaves else zygote.layers
        tier = Tier(name=plan.tier, layers=layers)
        sandbox = cls(settings=settings, tier=tier, _pool=pool, _scratches=zygote.scratches)
        pool.open()
        return sandbox

    @property
    def running(self) -> int:
        """Jobs that run now."""
        return self._running

    @property
    def ready(self) -> int:
        """Jails that wait for a job."""
        return self._pool.ready

    def waiting(self) -> tuple[int, ...]:
        """The process ids of the jails that wait."""
        return self._pool.waiting()

    def run(self, job: Job) -> Run:
        """Do a job in a jail of its own and tell what came of it; never raises for what it does."""
        for _ in range(_TRIES):
            try:
                held = self._pool.take(self.settings.wait.total_seconds())
            except SandboxUnavailable as exc:
                return self._failed("internal", str(exc))
            with self._held(held):
                run = self._supervise(held.jail, job)
            if run is not None:
                return run
        return self._failed("internal", "one jail after the other died before it could begin")

    def probe(self) -> Tier:
        """The tier that this sandbox was found, by doing, to have."""
        return self.tier

    def self_test(self) -> SelfTest:
        """Attack itself through the same path as every job; a few hundred milliseconds."""
        return self_test.attack(self.run)

    def close(self) -> None:
        """End all jails, also those that run."""
        self._pool.close()
        if self._scratches is not None:
            self._scratches.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _held(self, held: Held) -> Iterator[None]:
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            self._pool.throw_away(held)
            with self._lock:
                self._running -= 1

    def _supervise(self, jail: Jail, job: Job) -> Run | None:
        """The run; None when the jail was killed before it read of its job, so nothing began."""
        try:
            watch = Watch(
                jail,
                job,
                flood_bytes=self.settings.flood_bytes,
                scratch_bytes=self.settings.scratch_mb << 20,
                scratch_files=self.settings.scratch_files,
            )
        except (TypeError, ValueError) as exc:
            return self._failed("rejected", f"the job cannot be told to a jail: {exc}")
        try:
            watch.follow()
        except OSError as exc:
            # Ours: a control group that does not take a limit, or no descriptor left.
            return self._failed("internal", f"the job could not be watched: {exc}")
        if not watch.begun:
            return None
        match judgement.decide(watch, job.limits.memory_limit_mb):
            case Answer(reason=reason, value=value, error=error):
                pass
            case (reason, error):
                value = None
        return Run(
            exit_reason=reason,
            value=value,
            error=error,
            stdout=watch.stdout.text(),
            stderr=watch.stderr.text(),
            wall_ms=round(watch.wall_ms, 3),
            cpu_ms=watch.ended.cpu_ms if watch.ended else 0.0,
            memory_peak_kb=watch.ended.memory_peak_kb if watch.ended else 0,
            tier=self.tier.name,
            layers=self.tier.layers,
        )

    def _failed(self, reason: ExitReason, message: str) -> Run:
        return Run(
            exit_reason=reason,
            error=Fault(type=reason, message=message, traceback=None),
            tier=self.tier.name,
            layers=self.tier.layers,
        )


def _strongest(settings: SandboxSettings, without: tuple[str, ...]) -> tuple[Plan, ZygoteProcess]:
    strong_enough = TIERS[: TIERS.index(settings.floor) + 1]
    if settings.tier not in ("auto", *strong_enough):
        raise SandboxUnavailable(f"{settings.tier} is below the floor, {settings.floor}")
    reasons = []
    for tier in strong_enough if settings.tier == "auto" else (settings.tier,):
        plan = _plan(settings, tier, without)
        try:
            return plan, _first_zygote(settings, plan)
        except SandboxUnavailable as exc:
            reasons.append(str(exc))
    raise SandboxUnavailable("; ".join(reasons))


def _first_zygote(settings: SandboxSettings, plan: Plan) -> ZygoteProcess:
    """One that has made a jail already; a tier that cannot is none. Raises SandboxUnavailable."""
    with ExitStack() as undone:
        scratches = None
        if plan.lends_scratch and settings.scratch_root is not None:
            scratches = Scratches.open(settings.scratch_root, uid=settings.uid)
            undone.callback(scratches.close)
        zygote = ZygoteProcess.start(plan, settings.python, scratches)
        undone.callback(zygote.close)
        with closing(zygote.bear()) as jail:
            jail.await_standing(10.0)
        undone.pop_all()
    return zygote


def _plan(settings: SandboxSettings, tier: TierName, without: tuple[str, ...]) -> Plan:
    return Plan(
        tier=tier,
        uid=settings.uid,
        packages=str(settings.packages.resolve()) if settings.packages else None,
        scratch_bytes=settings.scratch_mb << 20,
        scratch_files=settings.scratch_files,
        lends_scratch=tier == "landlock" and settings.scratch_root is not None,
        open_files=settings.open_files,
        threads=settings.threads,
        without=without,
    )
