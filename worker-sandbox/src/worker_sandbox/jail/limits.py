"""Resource limits, soft equal to hard; setrlimit(2).

Soft limits warn by signals, and pid 1 of a pid namespace does not hear those; hard ones kill.
"""

from __future__ import annotations

import resource
import struct
from typing import Final

from worker_sandbox.jail import kernel
from worker_sandbox.jail.kernel import Call
from worker_sandbox.jail.plan import Plan

_STACK: Final = 8 << 20
_PENDING_SIGNALS: Final = 64


def tape(plan: Plan) -> list[Call]:
    """What holds for every jail, whatever its job."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: _PENDING_SIGNALS,
        resource.RLIMIT_STACK: _STACK,
        resource.RLIMIT_NOFILE: plan.open_files,
    }
    if plan.tier == "namespaces":
        # Elsewhere the count would be that of all jails, and of whoever else has this uid.
        wanted[resource.RLIMIT_NPROC] = plan.threads
    return [
        kernel.planned(
            "rlimits", "prlimit64", 0, limit, kernel.address(struct.pack("=QQ", most, most))
        )
        for limit, most in ((limit, _possible(limit, most)) for limit, most in wanted.items())
    ]


def lower_for_job(*, address_space: int, cpu_seconds: int, file_bytes: int) -> None:
    """What the job in hand may take."""
    for limit, most in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
    ):
        most = _possible(limit, most)  # noqa: PLW2901
        resource.setrlimit(limit, (most, most))


def _possible(limit: int, most: int) -> int:
    hard = resource.getrlimit(limit)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)
