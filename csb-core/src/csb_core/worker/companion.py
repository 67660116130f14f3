"""What a provider runs beside its consumer."""

from __future__ import annotations

from typing import Protocol


class Companion(Protocol):
    """One thread of the provider's own, which lives as long as the process works."""

    def run(self) -> None:
        """Do its work until `stop`; whatever it raises ends the process."""

    def interrupt(self) -> None:
        """The grace period is all but over: let actions end at once, so that they are recorded."""

    def stop(self) -> None:
        """Nothing is executed any more: let `run` return, and give back what is held."""
