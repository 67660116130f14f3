"""The worker's side of a zygote: start it, have it bear jails, end it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, Self

from worker_sandbox.errors import SandboxUnavailable
from worker_sandbox.jail import boot
from worker_sandbox.jail.plan import Plan
from worker_sandbox.jail.zygote import BORN, LONGEST
from worker_sandbox.jails import Jail
from worker_sandbox.scratch import Scratches

_START: Final = 20.0
_ANSWER: Final = 10.0
_DESCRIPTORS: Final = 6


@dataclass(slots=True, kw_only=True)
class ZygoteProcess:
    """A running zygote. One thread at a time may ask it for jails."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    layers: tuple[str, ...]
    started: float
    #: Where its jails get their scratch directories, if they are lent one.
    scratches: Scratches | None = None
    born: int = 0

    @classmethod
    def start(
        cls, plan: Plan, python: Path | None = None, scratches: Scratches | None = None
    ) -> Self:
        """Exec it and wait until it stands. Raises SandboxUnavailable with its reason."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = (python or Path(sys.executable)).resolve()
        arguments = [
            str(program),
            "-I",
            "-S",
            "-E",
            "-X",
            "utf8",
            boot.__file__,
            str(theirs.fileno()),
        ]
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
                    arguments,
                    env={} if plan.has("scrub") else None,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as exc:
                ours.close()
                raise SandboxUnavailable(f"{program} cannot be started: {exc}") from exc
        ours.settimeout(_START)
        try:
            ours.send(plan.dump())
            said = ours.recv(LONGEST).decode()
        except OSError as exc:
            said = f"failed {exc}"
        verb, _, rest = said.partition(" ")
        if verb != "stands":
            ours.close()
            process.kill()
            process.wait()
            raise SandboxUnavailable(f"no {plan.tier} tier here: {rest or 'the zygote ended'}")
        ours.settimeout(_ANSWER)
        layers = tuple(rest.split(","))
        return cls(
            process=process,
            channel=ours,
            layers=layers,
            started=monotonic(),
            scratches=scratches if plan.lends_scratch else None,
        )

    def bear(self) -> Jail:
        """A new jail, not yet confirmed to stand. Raises SandboxUnavailable."""
        if self.scratches is None:
            return self._bear(())
        scratch = self.scratches.make()
        try:
            jail = self._bear((scratch.descriptor,))
        except SandboxUnavailable:
            self.scratches.give_back(scratch)
            raise
        jail.scratch, jail.scratches = scratch, self.scratches
        return jail

    def _bear(self, lent: tuple[int, ...]) -> Jail:
        try:
            socket.send_fds(self.channel, [b"bear"], lent)
            said, descriptors, _, _ = socket.recv_fds(self.channel, LONGEST, _DESCRIPTORS)
        except OSError as exc:
            raise SandboxUnavailable(f"the zygote does not answer: {exc}") from exc
        if len(descriptors) != _DESCRIPTORS:
            for descriptor in descriptors:
                os.close(descriptor)
            raise SandboxUnavailable(f"no jail was born: {said.decode() or 'the zygote ended'}")
        self.born += 1
        job, result, stdout, stderr, ended, process = descriptors
        (pid,) = BORN.unpack(said)
        for descriptor in (job, result, stdout, stderr):
            os.set_blocking(descriptor, False)
        return Jail(
            pid=pid,
            job=job,
            result=result,
            stdout=stdout,
            stderr=stderr,
            ended=ended,
            process=process,
        )

    def is_dead(self) -> bool:
        """Whether its process has ended."""
        return self.process.poll() is not None

    def close(self) -> None:
        """End it, and with it every jail of its own."""
        self.channel.close()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
