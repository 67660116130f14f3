"""Namespaces of the zygote and of each jail; namespaces(7), user_namespaces(7)."""

from __future__ import annotations

import os
import socket
from typing import Final

from worker_sandbox.jail import kernel
from worker_sandbox.jail.plan import Plan

#: Who the job is inside its jail; outside it is the zygote's user.
_INSIDE: Final = 1000
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
    kernel.unshare(wanted)
    if uid != 0:
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        map_ids(proc, uid, gid)
        os.close(proc)
    if plan.has("uts"):
        name_host()


def name_host() -> None:
    """Give the host a name that tells nothing."""
    # Python 3.11 has socket.sethostname; domain names are set by nobody.
    socket.sethostname(_NAME)


def map_ids(proc: int, uid: int, gid: int) -> None:
    """Map the outer user and group, and no other, to one inside; `proc` is a directory of procfs."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_INSIDE} {uid} 1"),
        ("gid_map", f"{_INSIDE} {gid} 1"),
    ):
        descriptor = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        os.write(descriptor, text.encode())
        os.close(descriptor)
