"""The sandbox attacks itself, through the same path as every job, and tells what held.

An attack counts only if it succeeds outside a jail at the same time, with the same bait.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from worker_sandbox.attacks import ATTACKS
from worker_sandbox.job import Job, Limits, Run

_LIMITS: Final = Limits(timeout_seconds=5, memory_limit_mb=32, cpu_limit=1.0)
_MEMORY: Final = 96 << 20
_CONTROL_SECONDS: Final = 60

#: An attack as an ordinary process: a child for each, for some do not survive their success.
_CONTROL: Final = """
import json, os, sys
bait, attacks = json.load(sys.stdin)
done = []
for name, code in attacks.items():
    pid = os.fork()
    if pid == 0:
        try:
            scope = {}
            exec(code, scope)
            os._exit(0 if scope["main"](bait) is True else 1)
        except BaseException:
            os._exit(1)
    if os.waitpid(pid, 0)[1] == 0:
        done.append(name)
print(json.dumps(done))
"""

Outcome = Literal["held", "breached", "untried"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One attack: held, breached, or untried because it does not succeed outside either."""

    attack: str
    outcome: Outcome
    #: What the jail said.
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """All attacks, and whether the sandbox may be trusted."""

    tried: tuple[Tried, ...]

    @property
    def held(self) -> bool:
        """No attack got through, and at least half of them could be tried at all."""
        untried = sum(one.outcome == "untried" for one in self.tried)
        return not self.breaches and 2 * untried < len(self.tried)

    @property
    def breaches(self) -> tuple[str, ...]:
        """The attacks that got through."""
        return tuple(one.attack for one in self.tried if one.outcome == "breached")

    def document(self) -> dict[str, Any]:
        """For /ready and the runtime document."""
        return {
            "held": self.held,
            "attacks": {one.attack: one.outcome for one in self.tried},
        }


def attack(run: Callable[[Job], Run]) -> SelfTest:
    """Try every attack in a jail and outside."""
    with _bait() as (bait, descriptor):
        outside = _outside(bait, descriptor)
        return SelfTest(tried=tuple(_try(run, name, bait, outside) for name in ATTACKS))


def _try(run: Callable[[Job], Run], name: str, bait: dict[str, Any], outside: set[str]) -> Tried:
    result = run(Job(kind="script", code=ATTACKS[name], input=bait, limits=_LIMITS))
    seen = result.exit_reason if result.error is None else result.error["message"]
    breached = result.exit_reason == "ok" and result.value is True
    if result.exit_reason == "internal":
        outcome: Outcome = "untried"
    elif breached:
        outcome = "breached"
    else:
        outcome = "held" if name in outside else "untried"
    return Tried(attack=name, outcome=outcome, seen=seen)


def _outside(bait: dict[str, Any], descriptor: int) -> set[str]:
    """The attacks that succeed without a jail."""
    ran = subprocess.run(  # noqa: S603 - our own interpreter and text
        [str(Path(sys.executable).resolve()), "-I", "-S", "-c", _CONTROL],
        input=json.dumps([bait, ATTACKS]).encode(),
        env={"CSB_BAIT": "canary"},
        pass_fds=[descriptor],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_CONTROL_SECONDS,
        check=False,
    )
    return set(json.loads(ran.stdout or b"[]"))


@contextmanager
def _bait() -> Iterator[tuple[dict[str, Any], int]]:
    """Files, listeners and a descriptor worth attacking; gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="csb-bait-")))
        folder.chmod(0o777)
        canary = folder / "canary"
        canary.write_text("canary")
        canary.chmod(0o644)
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        name = f"csb-bait-{os.getpid()}-{port.getsockname()[1]}"
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{name}")
        abstract.listen()
        yield (
            {
                "file": str(canary),
                "directory": str(folder),
                "port": port.getsockname()[1],
                "abstract": name,
                "pid": os.getpid(),
                "memory": _MEMORY,
            },
            port.fileno(),
        )
