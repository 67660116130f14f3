"""How the sandbox of a process is to be; all of it has a default that suits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from worker_sandbox.jail.plan import TierName


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """What an operator may choose."""

    #: The tier to build; auto takes the strongest that works here.
    tier: TierName | Literal["auto"] = "auto"
    #: Below this tier the sandbox does not open.
    floor: TierName = "landlock"
    #: Jails that stand ready.
    pool_size: int = 6
    #: How long a run waits for a jail when none is ready.
    wait: timedelta = timedelta(seconds=30)
    #: Whom the zygote becomes when the worker is root.
    uid: int = 64_200
    #: The interpreter of the jails; our own without one.
    python: Path | None = None
    #: A directory of packages, the same in every jail, read-only.
    packages: Path | None = None
    #: Where scratch directories are made for jails that cannot mount their own; best a mount of
    #: its own, in memory. Without it these have none.
    scratch_root: Path | None = None
    #: Room in a script's scratch directory, and how many files.
    scratch_mb: int = 16
    scratch_files: int = 256
    #: Descriptors and threads of one job.
    open_files: int = 64
    threads: int = 32
    #: Whether jails get control groups of their own where that works.
    cgroups: bool = True
    #: Prints beyond this end the run; of less the last 64 KiB are kept.
    flood_bytes: int = 8 << 20
    #: A zygote is replaced after so many jails, or this long: a new layout, a new hash seed.
    rotate_jails: int = 5000
    rotate_after: timedelta = timedelta(minutes=15)
