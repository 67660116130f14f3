"""From a fresh fork of the zygote to a jail that waits for its job, step by step."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from dataclasses import dataclass
from typing import Final, NoReturn

from worker_sandbox.jail import (
    frames,
    inside,
    kernel,
    landlock,
    limits,
    namespaces,
    privileges,
    root,
    seccomp,
)
from worker_sandbox.jail.plan import Plan

#: Where the jail has its descriptors: nothing to read, two to print on, its job, its result.
_NOTHING, _OUT, _ERR, _JOB, _RESULT, _FIRST_TO_CLOSE = range(6)
_HIGH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all jails of a zygote have in common."""

    plan: Plan
    #: A directory of procfs, for the maps of ids; nothing of the user ever runs while it is open.
    proc: int
    nothing: int
    #: Readable when the zygote is dead.
    life: int
    filter: bytes
    landlock_abi: int
    rules: int
    uid: int
    gid: int
    #: Size of the address space before anything of the user is in it.
    base_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The jail's ends of its four pipes."""

    job: int
    result: int
    stdout: int
    stderr: int


def become(house: House, ends: Ends) -> NoReturn:
    """Lock this process up and wait for a job; never returns."""
    step = "begin"
    try:
        for step, lock in (
            ("parent", _follow_parent),
            ("descriptors", lambda house: _take(house, ends)),
            ("namespaces", _settle),
            ("limits", _limit),
            ("privileges", _give_up),
            ("close", _close),
            ("seccomp", _filter),
        ):
            lock(house)
    except BaseException as exc:  # noqa: BLE001 - whatever it is, the supervisor hears of it
        _fail(ends, f"{step}: {exc}")
    _forget()
    inside.live(_JOB, _RESULT, base_bytes=house.base_bytes, scratch=_scratch(house.plan))


def _follow_parent(house: House) -> None:
    """Die with the zygote, even if it died before we asked for that."""
    privileges.die_with_parent()
    poll = select.poll()
    poll.register(house.life, 0)
    if poll.poll(0):
        os._exit(0)


def _take(house: House, ends: Ends) -> None:
    wanted = (house.nothing, ends.stdout, ends.stderr, ends.job, ends.result)
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _HIGH) for descriptor in wanted]
    for target, source in enumerate(high):
        os.dup2(source, target)
    os.environ.clear()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _settle(house: House) -> None:
    plan = house.plan
    if plan.tier == "namespaces":
        namespaces.map_ids(house.proc, house.uid, house.gid)
        if plan.has("root"):
            root.add_scratch(plan.scratch_bytes, plan.scratch_files)
    os.setsid()
    os.umask(0o077)
    os.chdir("/")


def _limit(house: House) -> None:
    if house.plan.has("rlimits"):
        # Without a user namespace of its own the count would be that of all jails together.
        threads = house.plan.threads if house.plan.tier == "namespaces" else 0
        limits.lower_at_birth(open_files=house.plan.open_files, threads=threads)


def _give_up(house: House) -> None:
    if house.plan.has("capabilities"):
        if house.plan.tier == "namespaces":
            privileges.drop_capabilities()
        privileges.no_new_privileges()
    if house.rules >= 0:
        landlock.restrict(house.rules, house.landlock_abi)
    privileges.undumpable()


def _close(house: House) -> None:
    if house.plan.has("scrub"):
        kernel.close_from(_FIRST_TO_CLOSE)


def _filter(house: House) -> None:
    if house.plan.has("seccomp"):
        seccomp.install(house.filter, own_pid=os.getpid())


def _scratch(plan: Plan) -> str | None:
    return root.SCRATCH if plan.has("root") else None


def _forget() -> None:
    """Leave nothing of ours for an import to find."""
    for name in [name for name in sys.modules if name.startswith("worker_sandbox")]:
        del sys.modules[name]
    del sys.argv[:], sys.orig_argv[:]


def _fail(ends: Ends, reason: str) -> NoReturn:
    for descriptor in (_RESULT, ends.result):
        try:
            os.write(descriptor, frames.FAILED + reason.encode())
        except OSError:
            continue
        break
    os._exit(1)
