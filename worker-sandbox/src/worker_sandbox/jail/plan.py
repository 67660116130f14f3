"""What a zygote is told once, at its start: how its jails are to be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Final, Literal, Self

TierName = Literal["namespaces", "landlock"]

#: What can be left out, by tests only, so that they see an attack succeed without it.
LAYERS: Final = (
    "root",
    "pid",
    "ipc",
    "uts",
    "cgroup",
    "network",
    "capabilities",
    "landlock",
    "seccomp",
    "rlimits",
    "scrub",
    "cgroups",
)
#: Those that need a user namespace.
OF_NAMESPACES: Final = frozenset({"root", "pid", "ipc", "uts", "cgroup", "network"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the jails of one zygote are made."""

    tier: TierName
    #: Whom to become when started as root.
    uid: int
    packages: str | None = None
    scratch_bytes: int = 16 << 20
    scratch_files: int = 256
    #: Whether the worker lends each jail a scratch directory, where they cannot mount their own.
    lends_scratch: bool = False
    open_files: int = 64
    threads: int = 32
    without: tuple[str, ...] = ()

    def has(self, layer: str) -> bool:
        """Whether jails get this layer, as far as the kernel has it."""
        needs_namespaces = layer in OF_NAMESPACES and self.tier != "namespaces"
        return layer not in self.without and not needs_namespaces

    def dump(self) -> bytes:
        """The plan as it travels to the zygote."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """What `dump` made."""
        told = json.loads(data)
        told["without"] = tuple(told["without"])
        return cls(**{field.name: told[field.name] for field in fields(cls)})
