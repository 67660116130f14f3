"""Where the processes of the line are killed: one point for each step that they take."""

from __future__ import annotations

from typing import Any, Final

from tests.chaos.striking import Point


def _something(arguments: tuple[Any, ...], result: Any) -> bool:
    del arguments
    return bool(result)


def _attaching(arguments: tuple[Any, ...], result: Any) -> bool:
    del result
    return any(one == "AttachUserPolicy" for one in arguments)


def _an_end(arguments: tuple[Any, ...], result: Any) -> bool:
    """`forget` has an end to tell of: created is version 1, claimed 2, ended 3 or more."""
    del result
    return any(version >= 3 for _, version in arguments[1])


API: Final = (
    Point(name="api-committed", module="csb_core.requests", attribute="insert", when="after"),
    Point(name="api-published", module="api_service.bell", attribute="Bell.ring", when="after"),
)

WORKER: Final = (
    Point(
        name="worker-popped",
        module="csb_core.worker.intake",
        attribute="Intake.run_once",
        when="after",
        meets=_something,
    ),
    Point(
        name="worker-claimed",
        module="csb_core.leases",
        attribute="claim",
        when="after",
        meets=_something,
    ),
    Point(
        name="worker-acting",
        module="worker_service_aws.calls",
        attribute="AccountSession.call",
        when="before",
        meets=_attaching,
    ),
    Point(
        name="worker-acted",
        module="worker_service_aws.calls",
        attribute="AccountSession.call",
        when="after",
        meets=_attaching,
    ),
    Point(name="worker-recording", module="csb_core.leases", attribute="record", when="before"),
    Point(name="worker-recorded", module="csb_core.leases", attribute="record", when="after"),
    Point(
        name="worker-invalidating",
        module="csb_core.cache",
        attribute="StatusCache.forget",
        when="before",
        meets=_an_end,
    ),
    Point(name="rescuer-asking", module="csb_core.rescues", attribute="rescue", when="before"),
    Point(
        name="rescuer-telling",
        module="csb_core.rescues",
        attribute="rescue",
        when="after",
        meets=_something,
    ),
)
