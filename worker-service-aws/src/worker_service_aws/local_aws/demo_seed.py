"""The accounts of the demo: a platform account and three targets with people in them.

python -m worker_service_aws.local_aws.demo_seed --external-id 111122223333=SECRET > seed.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

PLATFORM_ACCOUNT: Final = "999988887777"
TARGET_ACCOUNTS: Final = ("111122223333", "444455556666", "777788889999")
EXECUTOR: Final = "CSBExecutor"
PLATFORM_USER: Final = "csb-platform"
PLATFORM_KEY_ID: Final = "CSBPLATFORMLOCAL0001"
PLATFORM_SECRET: Final = "known-to-everybody-and-good-only-here"  # noqa: S105 - no secret: local
PEOPLE: Final = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")

Json = dict[str, Any]


def demo_seed(external_ids: Mapping[str, str], *, extra_users: int = 0) -> Json:
    """Return the seed; an account that `external_ids` leaves out gets `local-<account>`.

    `extra_users` adds load-00001 and so on to every target, for benches and long tests.
    """
    targets = {
        account: _target(account, external_ids.get(account, f"local-{account}"), extra_users)
        for account in {**dict.fromkeys(TARGET_ACCOUNTS), **dict.fromkeys(external_ids)}
    }
    return {"accounts": {PLATFORM_ACCOUNT: _platform(), **targets}}


def executor_arn(account: str) -> str:
    """The role through which the platform enters an account."""
    return f"arn:aws:iam::{account}:role/{EXECUTOR}"


def _platform() -> Json:
    assume = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": executor_arn("*")}
    return {
        "users": [
            {
                "name": PLATFORM_USER,
                "access_key": {"id": PLATFORM_KEY_ID, "secret": PLATFORM_SECRET},
                "inline_policies": {"assume-executors": _document(assume)},
            }
        ]
    }


def _target(account: str, external_id: str, extra_users: int) -> Json:
    service_trust = _trust({"Service": "ec2.amazonaws.com"})
    people = [{"name": name, "path": "/people/", "groups": ["developers"]} for name in PEOPLE]
    load = [{"name": f"load-{number:05}"} for number in range(1, extra_users + 1)]
    return {
        "policies": [{"name": "deploy-artifacts", "path": "/team/", "document": _deploy(account)}],
        "groups": [
            {
                "name": "developers",
                "attached_policies": ["arn:aws:iam::aws:policy/IAMReadOnlyAccess"],
            },
            {"name": "auditors"},
        ],
        "users": [*people, *load],
        "roles": [
            _executor(account, external_id),
            {"name": "deploy", "trust": service_trust},
            {"name": "reporting", "path": "/team/", "trust": service_trust},
            {"service": "elasticbeanstalk.amazonaws.com"},
        ],
    }


def _executor(account: str, external_id: str) -> Json:
    platform = {"AWS": f"arn:aws:iam::{PLATFORM_ACCOUNT}:user/{PLATFORM_USER}"}
    condition = {"StringEquals": {"sts:ExternalId": external_id}}
    return {
        "name": EXECUTOR,
        "trust": _trust(platform, condition),
        "inline_policies": {"what-csecbridge-may-do": _executor_policy(account)},
    }


def _executor_policy(account: str) -> Json:
    kinds = [f"arn:aws:iam::{account}:{kind}/*" for kind in ("user", "role", "group")]
    actions = [f"iam:{verb}{noun}Policy" for verb in ("Attach", "Detach") for noun in _NOUNS] + [
        one for noun in _NOUNS for one in (f"iam:Get{noun}", f"iam:ListAttached{noun}Policies")
    ]
    return _document(
        {"Effect": "Allow", "Action": actions, "Resource": kinds},
        {"Effect": "Allow", "Action": "iam:GetPolicy", "Resource": "*"},
        {"Effect": "Deny", "Action": "iam:*", "Resource": executor_arn(account)},
    )


_NOUNS: Final = ("User", "Role", "Group")


def _deploy(account: str) -> Json:
    bucket = f"arn:aws:s3:::artifacts-{account}/*"
    return _document({"Effect": "Allow", "Action": "s3:GetObject", "Resource": bucket})


def _trust(principal: Json, condition: Json | None = None) -> Json:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
    return _document(statement | ({"Condition": condition} if condition else {}))


def _document(*statements: Json) -> Json:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def main() -> None:
    """Write the seed to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--external-id", action="append", default=[], metavar="ACCOUNT=VALUE")
    parser.add_argument("--extra-users", type=int, default=0)
    options = parser.parse_args()
    external_ids = dict(one.split("=", 1) for one in options.external_id)
    json.dump(demo_seed(external_ids, extra_users=options.extra_users), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
