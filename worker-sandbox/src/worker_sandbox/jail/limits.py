"""Resource limits, soft equal to hard; setrlimit(2).

Soft limits warn by signals, and pid 1 of a pid namespace does not hear those; hard ones kill.
"""

from __future__ import annotations

import resource
from typing import Final

_STACK: Final = 8 << 20


def lower_at_birth(*, open_files: int, threads: int) -> None:
    """What holds for every jail, whatever its job."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NICE, 0),
        (resource.RLIMIT_RTPRIO, 0),
        (resource.RLIMIT_SIGPENDING, 64),
        (resource.RLIMIT_STACK, _STACK),
        (resource.RLIMIT_NOFILE, open_files),
    ):
        _lower(limit, value)
    if threads:
        _lower(resource.RLIMIT_NPROC, threads)


def lower_for_job(*, address_space: int, cpu_seconds: int, file_bytes: int) -> None:
    """What the job in hand may take."""
    _lower(resource.RLIMIT_AS, address_space)
    _lower(resource.RLIMIT_CPU, cpu_seconds)
    _lower(resource.RLIMIT_FSIZE, file_bytes)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(limit, (value, value))
