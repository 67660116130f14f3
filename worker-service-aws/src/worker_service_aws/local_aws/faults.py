"""Faults to order: what AWS does on a bad day, for a chosen operation, a chosen number of times."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from worker_service_aws.local_aws.call import Call
from worker_service_aws.local_aws.refusal import Refusal


class Kind(StrEnum):
    """What happens to the call."""

    #: Refused with `Throttling`, nothing performed.
    THROTTLE = "throttle"
    #: Performed after `seconds`.
    LATENCY = "latency"
    #: Performed, and the connection closed without an answer.
    LOST_ANSWER = "lost_answer"
    #: Not performed, and the connection closed without an answer.
    LOST_CALL = "lost_call"
    #: Refused with `code`, `status` and `message`, nothing performed.
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One order; None stands for any account or any principal."""

    operation: str
    kind: Kind
    times: int = 1
    account: str | None = None
    principal: str | None = None
    seconds: float = 1.0
    code: str = "ServiceFailure"
    status: int = 500
    message: str = "A fault to order."

    def meets(self, call: Call, account_id: str) -> bool:
        return (
            self.operation in ("*", call.operation)
            and self.account in (None, account_id)
            and self.principal in (None, call.subject)
        )

    def refusal(self) -> Refusal:
        if self.kind is Kind.THROTTLE:
            return Refusal("Throttling", "Rate exceeded", status=400)
        return Refusal(self.code, self.message, status=self.status)


class Faults:
    """The faults that are still to happen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def order(self, wish: dict[str, Any]) -> None:
        """Take an order; raise ValueError or TypeError when it is not understood."""
        fault = Fault(**{**wish, "kind": Kind(wish["kind"])})
        with self._lock:
            self._waiting.append(fault)

    def take(self, call: Call, account_id: str) -> Fault | None:
        """Return the fault that befalls this call, and count it; the oldest order comes first."""
        with self._lock:
            for place, fault in enumerate(self._waiting):
                if fault.meets(call, account_id):
                    left = replace(fault, times=fault.times - 1)
                    self._waiting[place : place + 1] = [left] if left.times > 0 else []
                    return fault
        return None

    def listed(self) -> list[dict[str, Any]]:
        """The orders as they were given, with the times that are left."""
        with self._lock:
            return [asdict(fault) for fault in self._waiting]

    def clear(self) -> None:
        """Forget every order."""
        with self._lock:
            self._waiting.clear()
