"""From a fresh fork of the zygote to a jail that waits for its job.

What happens is a tape of bare system calls, recorded once and played in every jail: after a fork
each object that the interpreter touches is a page to copy, so as little of it as possible runs.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from worker_sandbox.jail import (
    frames,
    kernel,
    landlock,
    limits,
    namespaces,
    privileges,
    root,
    seccomp,
)
from worker_sandbox.jail.kernel import Call
from worker_sandbox.jail.plan import Plan

#: Where the jail has its descriptors; 0 is the zygote's, and reads nothing. The last is the scratch
#: directory that it was lent; without one there is nothing.
OUT, ERR, JOB, RESULT, LENT = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipes:
    """The numbers that the ends of a new jail's pipes have in the zygote, every time."""

    job: int = 3
    result: int = 6
    stdout: int = 8
    stderr: int = 10
    #: The lowest number that no pipe has; what is lent to a jail has it until it is moved.
    free: int = 13


PIPES: Final = Pipes()


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all jails of a zygote have in common."""

    plan: Plan
    #: A directory of procfs, for the maps of ids; nothing of the user ever runs while it is open.
    proc: int
    #: Readable when the zygote is dead.
    life: int
    rules: landlock.Rules | None


def record(house: House) -> list[Call]:
    """The tape: every step from the fork to the locked jail, in this order."""
    plan = house.plan
    own = plan.tier == "namespaces"
    lent = LENT if plan.lends_scratch else None
    tape = [*privileges.follow_parent(), _zygote_lives(house.life), *_descriptors()]
    if lent is not None:
        tape += _lent(lent)
    if own:
        tape += namespaces.tape(house.proc, PIPES.free)
    if plan.has("root"):
        tape += root.tape(plan)
    tape += _settle()
    if plan.has("rlimits"):
        tape += limits.tape(plan)
    if plan.has("capabilities"):
        tape += privileges.drop_capabilities() if own else []
        tape += privileges.no_new_privileges()
    if house.rules is not None:
        tape += landlock.tape(house.rules, free=PIPES.free, lent=lent)
    tape += privileges.undumpable()
    if plan.has("scrub"):
        first = LENT if lent is None else LENT + 1
        tape += [kernel.planned("close", "close_range", first, 0xFFFF_FFFF)]
    if plan.has("seccomp"):
        program = seccomp.assemble(
            kernel.MACHINE, own_pid=plan.has("pid"), own_root=plan.has("root")
        )
        tape += seccomp.tape(program)
    return tape


def become(tape: list[Call], live: Callable[[], NoReturn]) -> NoReturn:
    """Play the tape, then live. A step that fails is told, and ends the process."""
    raw = kernel.raw
    for _, arguments, wanted in tape:
        result = raw(*arguments)
        if result < 0 or (wanted is not None and result != wanted):
            _fail(tape, arguments)
    live()


def _zygote_lives(life: int) -> Call:
    """It may have died before we asked to die with it: then its pipe is at its end."""
    polled = kernel.address(struct.pack("=ihh", life, select.POLLIN, 0))
    at_once = kernel.address(bytes(16))
    return kernel.planned("zygote", "ppoll", polled, 1, at_once, wanted=0)


def _descriptors() -> list[Call]:
    return [
        kernel.planned("descriptors", "dup3", source, target, 0)
        for source, target in ((PIPES.result, RESULT), (PIPES.stdout, OUT), (PIPES.stderr, ERR))
    ]


def _lent(to: int) -> list[Call]:
    return [
        kernel.planned("descriptors", "dup3", PIPES.free, to, 0),
        kernel.planned("descriptors", "close", PIPES.free),
    ]


def _settle() -> list[Call]:
    return [
        kernel.planned("session", "setsid"),
        kernel.planned("umask", "umask", 0o077),
        kernel.planned("directory", "chdir", kernel.address("/")),
    ]


def _fail(tape: list[Call], arguments: tuple[int, ...]) -> NoReturn:
    step = next(call.step for call in tape if call.arguments is arguments)
    reason = frames.FAILED + f"{step}: {kernel.errno_text()}".encode()
    for descriptor in (RESULT, PIPES.result):
        try:
            os.write(descriptor, reason)
        except OSError:
            continue
        break
    os._exit(1)
