"""What moto knows: the accounts, their principals, and the policies these carry."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from moto.iam.exceptions import IAMException
from moto.iam.models import Group, IAMBackend, Role, User, iam_backends

from worker_service_aws.local_aws.policy import Document

PARTITION = "aws"


def account(account_id: str) -> IAMBackend:
    """The IAM of one account; it comes into being when first asked for."""
    return iam_backends[account_id][PARTITION]


def user_of_key(access_key_id: str) -> tuple[str, str] | None:
    """The account and the name of the user who holds this active long-term key, or None."""
    for account_id, partitions in list(iam_backends.items()):
        for user in list(partitions[PARTITION].users.values()):
            for key in user.access_keys:
                if key.access_key_id == access_key_id and key.status == "Active":
                    return account_id, user.name
    return None


def role_by_arn(arn: str) -> Role | None:
    """The role behind an ARN, or None; no account is made by asking."""
    account_id = arn.split(":")[4]
    if account_id not in iam_backends:
        return None
    try:
        return account(account_id).get_role_by_arn(arn)
    except IAMException:
        return None


def trust_policy(role: Role) -> Document:
    """Who may assume the role."""
    return _parsed(role.assume_role_policy_document)


def principal_arn(account_id: str, kind: str, name: str) -> str:
    """The ARN of a principal with its path; without one when there is no such principal."""
    principal = _principal(account_id, kind, name)
    return principal.arn if principal else f"arn:{PARTITION}:iam::{account_id}:{kind}/{name}"


def policies_of_user(account_id: str, name: str) -> list[Document]:
    """Everything that a user carries: own policies and those of its groups."""
    iam = account(account_id)
    holders: list[User | Group] = [iam.get_user(name), *iam.get_groups_for_user(name)]
    return [document for holder in holders for document in _policies_of(holder)]


def policies_of_role(account_id: str, name: str) -> list[Document]:
    """Everything that a role carries."""
    return _policies_of(account(account_id).get_role(name))


def _policies_of(holder: User | Group | Role) -> list[Document]:
    managed = [
        version.document
        for policy in holder.managed_policies.values()
        for version in policy.versions
        if version.version_id == policy.default_version_id
    ]
    return [_parsed(document) for document in (*holder.policies.values(), *managed)]


def attached(account_id: str, kind: str, name: str) -> frozenset[str]:
    """The ARNs of a principal's managed policies; empty when there is no such principal."""
    principal = _principal(account_id, kind, name)
    return frozenset(principal.managed_policies) if principal else frozenset()


def _principal(account_id: str, kind: str, name: str) -> User | Role | Group | None:
    iam = account(account_id)
    try:
        match kind:
            case "user":
                return iam.get_user(name)
            case "role":
                return iam.get_role(name)
            case _:
                return iam.get_group(name)
    except IAMException:
        return None


def _parsed(document: Any) -> Document:
    if isinstance(document, str):
        text = document if document.lstrip().startswith("{") else unquote(document)
        parsed: Document = json.loads(text)
        return parsed
    return dict(document)
