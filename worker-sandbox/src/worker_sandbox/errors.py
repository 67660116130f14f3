"""What can go wrong with the sandbox itself; what jobs do is told by their Run."""

from __future__ import annotations

from csb_core.errors import BridgeError


class SandboxUnavailable(BridgeError):
    """No jail can be had, or none as strong as the settings demand; the text says why."""

    code = "sandbox_unavailable"
    retryable = True
