"""A worker whose actions do as the test says; served like every other: `tests.chaos.playing:app`.

`attach_policy` leaves a line in the file `effects`. For a user whose name begins with "held" it
first waits until the file `gate` is there.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from csb_core.models import Lease, Outcome, Succeeded
from csb_core.worker import main as worker
from csb_core.worker.action import Attempt

FOLDER: Final = "CHAOS_PLAY"


class Play:
    """The action."""

    deadline = timedelta(minutes=5)

    def __init__(self, folder: Path) -> None:
        self._gate = folder / "gate"
        self._effects = os.open(folder / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        """Leave the effect; one write of a short line is whole or not there."""
        assert lease.principal is not None
        while lease.principal["name"].startswith("held") and not self._gate.exists():
            time.sleep(0.1)
        attempt.require_lease()
        os.write(self._effects, f"{lease.correlation_id}\n".encode())
        return Succeeded(result={"played": True}, changed=True)


app = worker.create("aws", {"attach_policy": Play(Path(os.environ[FOLDER]))})
