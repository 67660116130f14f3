"""Writes the seccomp profile of the sandbox worker's pod, from what it asks of the kernel and why.

python helm/sandbox_profile.py            write it, for the chart and for the installer on nodes
python helm/sandbox_profile.py --check    say which is stale; 1 when one is

The tier `namespaces` needs it: the runtime's own profile forbids to make a namespace or a mount to
whoever lacks CAP_SYS_ADMIN, and no pod of ours has that. In turn this one is shorter: what is not
named here does not exist (ENOSYS), for the worker as for its jails. Each jail has a filter of its
own beneath, which allows less still; see worker_sandbox/jail/syscalls.py.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from worker_sandbox.jail import syscalls

ROOT: Final = Path(__file__).resolve().parent.parent
NAME: Final = "csb-sandbox.json"
#: Beside the chart that names it, and for the installer on nodes: Kustomize reads no other folder.
PLACES: Final = (
    ROOT / "helm/worker/files/seccomp" / NAME,
    ROOT / "platform-config/components/sandbox-profile" / NAME,
)

#: Why -> what, beside what a jail itself may call.
REASONS: Final[Mapping[str, str]] = {
    "make jails: the namespaces, the root, and its end; jail/namespaces.py, root.py": (
        "unshare mount umount2 pivot_root sethostname"
    ),
    "lock jails up; jail/landlock.py, privileges.py, limits.py": (
        "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp capset setsid "
        "setrlimit pidfd_open pidfd_send_signal"
    ),
    "start and end programs: gunicorn, its workers, the zygote, the validator": (
        "fork vfork execve execveat wait4 waitid kill tkill rt_sigqueueinfo setpgid arch_prctl "
        "get_robust_list sched_getparam sched_getscheduler sched_setaffinity"
    ),
    "talk to PostgreSQL, Redis, the zygote and the probes; the families are checked below": (
        "bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt "
        "sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg"
    ),
    "wait: the loops of gunicorn and of the pool": (
        "epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 "
        "signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime inotify_init "
        "inotify_init1 inotify_add_watch inotify_rm_watch"
    ),
    "read and write files: gunicorn's heartbeat, locks of scratch folders, logs": (
        "flock chown fchown lchown fchownat link linkat statfs fstatfs fadvise64 sendfile "
        "copy_file_range msync mincore getxattr lgetxattr fgetxattr listxattr"
    ),
    "know the machine: memory and processors": "sysinfo membarrier",
}

#: Families of sockets; AF_NETLINK tells getaddrinfo(3) the addresses of the pod. No packets, no
#: Bluetooth, no AF_ALG, no AF_VSOCK to the host of a virtual machine.
FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)


def profile() -> dict[str, Any]:
    """The profile as container runtimes read it; LinuxSeccomp in the OCI runtime specification."""
    names = {*syscalls.ALLOWED, *syscalls.NOTHING, *syscalls.CHECKED}
    names |= {name for text in REASONS.values() for name in text.split()}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOSYS,
        # No 32-bit calls: whoever makes one is killed.
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": sorted(names), "action": "SCMP_ACT_ALLOW"},
            *(
                {
                    "names": ["socket", "socketpair"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": int(family), "op": "SCMP_CMP_EQ"}],
                }
                for family in FAMILIES
            ),
        ],
    }


def main(argv: Sequence[str]) -> int:
    """Write it everywhere, or say where it is stale."""
    text = json.dumps(profile(), indent=2) + "\n"
    stale = [path for path in PLACES if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" in argv:
            print(f"{path.relative_to(ROOT)} is stale: python helm/sandbox_profile.py")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in argv else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
