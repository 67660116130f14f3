"""A row that a claim returned, as the lease that the worker holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from csb_core.models import Json, Lease, Target
from csb_core.pins import pin_of


def lease_of(row: Mapping[str, Any]) -> Lease:
    """Return the row as a value; its target is None where the account is not registered."""
    payload: Json = row["payload"]
    return Lease(
        correlation_id=row["correlation_id"],
        tenant_id=row["tenant_id"],
        version=row["version"],
        cloud_provider=row["cloud_provider"],
        action=row["action"],
        account_id=row["account_id"],
        principal=payload.get("principal"),
        parameters=payload.get("parameters", {}),
        dry_run=payload.get("dry_run", False),
        payload=payload,
        attempt=row["attempt"],
        retries=row["retries"],
        max_attempts=row["max_attempts"],
        token=row["lease_token"],
        traceparent=row["traceparent"],
        requested_by=row["requested_by"],
        request_id=row["request_id"],
        checkpoint=row["checkpoint"],
        target=_target(row["account_id"], row["target"]) if row["target"] else None,
        util=pin_of(row),
    )


def _target(account_id: str, fields: Json) -> Target:
    return Target(
        account_id=account_id,
        role_arn=fields["role_arn"],
        external_id=fields["external_id"],
        registered_at=datetime.fromisoformat(fields["registered_at"]),
    )
