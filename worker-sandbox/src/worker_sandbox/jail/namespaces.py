"""Namespaces of the zygote and of each jail; namespaces(7), user_namespaces(7)."""

from __future__ import annotations

import os
import socket
from typing import Final

from worker_sandbox.jail import kernel
from worker_sandbox.jail.kernel import Call
from worker_sandbox.jail.plan import Plan

#: Who the job is inside its jail; outside it is the zygote's user.
_INSIDE: Final = 1000
#: The host's own name tells too much.
_NAME: Final = "sandbox"

_FLAGS: Final = {
    "root": kernel.CLONE_NEWNS,
    "pid": kernel.CLONE_NEWPID,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "cgroup": kernel.CLONE_NEWCGROUP,
    "network": kernel.CLONE_NEWNET,
}


def flags(plan: Plan) -> int:
    """What a jail is cloned into."""
    if plan.tier != "namespaces":
        return 0
    chosen = kernel.CLONE_NEWUSER
    for layer, flag in _FLAGS.items():
        if plan.has(layer):
            chosen |= flag
    return chosen


def enter_own(plan: Plan) -> None:
    """Take the zygote out of the worker's mount, IPC, UTS and network namespaces."""
    wanted = flags(plan) & ~(kernel.CLONE_NEWPID | kernel.CLONE_NEWCGROUP)
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        wanted &= ~kernel.CLONE_NEWUSER
    kernel.call("unshare", wanted)
    if uid != 0:
        for path, text in _maps(uid, gid):
            with open(f"/proc/{path}", "w") as file:  # noqa: PTH123 - nothing that pathlib adds
                file.write(text)
    if plan.has("uts"):
        socket.sethostname(_NAME)


def tape(proc: int, descriptor: int) -> list[Call]:
    """Map the zygote's user and group, and no other, to one inside the jail.

    `proc` is a directory of procfs, `descriptor` the lowest number that is free.
    """
    calls = []
    for path, text in _maps(os.geteuid(), os.getegid()):
        where, data = kernel.address(path), kernel.address(text)
        calls += [
            kernel.planned("maps", "openat", proc, where, os.O_WRONLY, wanted=descriptor),
            kernel.planned("maps", "write", descriptor, data, len(text), wanted=len(text)),
            kernel.planned("maps", "close", descriptor),
        ]
    return calls


def _maps(uid: int, gid: int) -> list[tuple[str, str]]:
    return [
        ("self/setgroups", "deny"),
        ("self/uid_map", f"{_INSIDE} {uid} 1"),
        ("self/gid_map", f"{_INSIDE} {gid} 1"),
    ]
