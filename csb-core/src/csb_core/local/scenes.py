"""What the demonstration asks for, and how each of it must end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

READ_ONLY: Final = "arn:aws:iam::aws:policy/ReadOnlyAccess"
AUDIT: Final = "arn:aws:iam::aws:policy/SecurityAudit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a request must end."""

    status: str = "SUCCESS"
    changed: bool | None = True
    error_class: str | None = None
    least_attempts: int = 1

    def meets(self, request: Mapping[str, Any]) -> bool:
        """Whether the request, as the API shows it, has ended so."""
        error = request["error"] or {}
        return (
            request["status"] == self.status
            and request["changed"] == self.changed
            and error.get("class") == self.error_class
            and request["attempt"] >= self.least_attempts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One request, with a fault of AWS that is ordered before it when there is to be one."""

    title: str
    body: Mapping[str, Any]
    ending: Ending
    fault: Mapping[str, Any] | None = None


def scenes(account: str, user: str) -> list[Scene]:
    """The demonstration in its order."""

    def body(action: str, name: str, policy: str, **more: Any) -> dict[str, Any]:
        return {
            "cloud_provider": "aws",
            "action": action,
            "account_id": account,
            "principal": {"type": "user", "name": name},
            "parameters": {"policy_arn": policy},
            **more,
        }

    return [
        Scene(
            title=f"attach a policy to {user} in account {account}",
            body=body("attach_policy", user, READ_ONLY),
            ending=Ending(),
        ),
        Scene(
            title="detach it",
            body=body("detach_policy", user, READ_ONLY),
            ending=Ending(),
        ),
        Scene(
            title="attach another one",
            body=body("attach_policy", user, AUDIT),
            ending=Ending(),
        ),
        Scene(
            title="the same again: the state holds already, nothing is changed",
            body=body("attach_policy", user, AUDIT),
            ending=Ending(changed=False),
        ),
        Scene(
            title="a principal that does not exist",
            body=body("attach_policy", "nobody-of-that-name", READ_ONLY),
            ending=Ending(status="FAILED", changed=None, error_class="NOT_FOUND"),
        ),
        Scene(
            title="AWS throttles: given back, and tried again",
            body=body("attach_policy", "bob", READ_ONLY),
            ending=Ending(least_attempts=2),
            fault={
                "operation": "AttachUserPolicy",
                "kind": "throttle",
                "times": 4,  # one more than a single attempt makes calls
                "account": account,
                "principal": "bob",
            },
        ),
        Scene(
            title="a dry run: the plan is made, nothing is touched",
            body=body("attach_policy", "carol", READ_ONLY, dry_run=True),
            ending=Ending(changed=False),
        ),
    ]


def undoing(account: str, user: str) -> list[dict[str, Any]]:
    """Requests that bring about the state in which the demonstration begins."""
    pairs = {(user, READ_ONLY), (user, AUDIT), ("bob", READ_ONLY), ("carol", READ_ONLY)}
    return [
        {
            "cloud_provider": "aws",
            "action": "detach_policy",
            "account_id": account,
            "principal": {"type": "user", "name": name},
            "parameters": {"policy_arn": policy},
        }
        for name, policy in sorted(pairs)
    ]
