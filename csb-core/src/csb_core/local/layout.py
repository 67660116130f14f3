"""Where the platform keeps its files on this machine."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`root` is the clone; `run` holds everything that a running platform writes."""

    root: Path
    run: Path

    @classmethod
    def of(cls, root: Path, environ: Mapping[str, str]) -> Layout:
        """The layout of this clone; CSB_RUN_DIR moves what it writes to another place."""
        root = root.resolve()
        return cls(root=root, run=(root / (environ.get("CSB_RUN_DIR") or ".run")).resolve())

    @property
    def postgres(self) -> Path:
        return self.run / "postgres"

    @property
    def redis(self) -> Path:
        return self.run / "redis"

    @property
    def log(self) -> Path:
        return self.run / "log"

    @property
    def environment(self) -> Path:
        return self.run / "csb.env"

    @property
    def memory(self) -> Path:
        return self.run / "memory.json"

    @property
    def programs(self) -> Path:
        return self.run / "programs.json"

    @property
    def packages(self) -> Path:
        """What utils may declare, where `make setup` has put it."""
        return self.root / ".venv" / "sandbox-packages"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off every other start or stop of this platform; the folders are there inside."""
        self.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.mkdir(mode=0o700, exist_ok=True)
        with (self.run / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
