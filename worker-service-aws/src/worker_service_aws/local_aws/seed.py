"""Fill moto's accounts from a seed: policies, groups, users and roles, as JSON describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moto.iam.models import Group, IAMBackend, Role, User

from worker_service_aws.local_aws import directory

Json = Mapping[str, Any]


def plant(seed: Json) -> None:
    """Bring every account of the seed about; policies and groups come before their users."""
    for account_id, content in seed["accounts"].items():
        iam = directory.account(account_id)
        for policy in content.get("policies", []):
            _policy(iam, policy)
        for group in content.get("groups", []):
            made = iam.create_group(group["name"], group.get("path", "/"))
            _carry(iam, made, "group", group)
        for user in content.get("users", []):
            _user(iam, user)
        for role in content.get("roles", []):
            _role(iam, role)


def _policy(iam: IAMBackend, policy: Json) -> None:
    iam.create_policy(
        description=policy.get("description", ""),
        path=policy.get("path", "/"),
        policy_document=json.dumps(policy["document"]),
        policy_name=policy["name"],
        tags=[],
    )


def _user(iam: IAMBackend, user: Json) -> None:
    made = iam.create_user(
        region_name="us-east-1", user_name=user["name"], path=user.get("path", "/"), tags=[]
    )
    for group in user.get("groups", []):
        iam.add_user_to_group(group, user["name"])
    _carry(iam, made, "user", user)
    if "access_key" in user:
        key = iam.create_access_key(user["name"])
        iam.access_keys.pop(key.physical_resource_id)
        key.access_key_id = user["access_key"]["id"]
        key.secret_access_key = user["access_key"]["secret"]
        iam.access_keys[key.physical_resource_id] = key


def _role(iam: IAMBackend, role: Json) -> None:
    if "service" in role:
        iam.create_service_linked_role(role["service"], role.get("description", ""), "")
        return
    made = iam.create_role(
        role_name=role["name"],
        assume_role_policy_document=json.dumps(role["trust"]),
        path=role.get("path", "/"),
        permissions_boundary=None,
        description=role.get("description", ""),
        tags=[],
        max_session_duration="3600",
    )
    _carry(iam, made, "role", role)


def _carry(iam: IAMBackend, holder: User | Group | Role, kind: str, description: Json) -> None:
    for name, document in description.get("inline_policies", {}).items():
        holder.put_policy(name, json.dumps(document))
    attach = {
        "user": iam.attach_user_policy,
        "group": iam.attach_group_policy,
        "role": iam.attach_role_policy,
    }[kind]
    for arn in description.get("attached_policies", []):
        attach(arn, description["name"])
