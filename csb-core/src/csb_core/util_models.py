"""The values of custom utils: heads, versions, shares, rules, and what a tenant may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from csb_core.models import Json, UtilLimits

UtilKind = Literal["transformer", "script"]
UtilStatus = Literal["active", "inactive", "deleted"]
Permission = Literal["read", "execute", "edit"]

#: What a caller may do with a util: what a share says, or everything with its own.
Access = Literal["owner", "edit", "execute", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Util:
    """The head of a util: what may change about it.

    `version` is the latest one, `active_version` what an execution runs that names none;
    `revision` is raised by each change. `access` is what the caller who reads it may do.
    """

    util_id: UUID
    tenant_id: UUID
    owner: str
    name: str
    description: str
    kind: UtilKind
    language: str
    category: str | None
    tags: list[str]
    status: UtilStatus
    version: int
    active_version: int | None
    revision: int
    created_at: datetime
    updated_at: datetime
    created_by: str
    updated_by: str
    access: Access


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What people know a util by."""

    name: str
    description: str = ""
    category: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a new version is made of; `label` is the author's own version, e.g. 1.2.0."""

    code: str
    parameters: Json
    execution_config: Json
    validation: Json
    test_cases: list[Json] = field(default_factory=list)
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilVersion:
    """One version, for ever as it was written."""

    util_id: UUID
    version: int
    tenant_id: UUID
    digest: str
    label: str | None
    code: str
    parameters: Json
    execution_config: Json
    test_cases: list[Json]
    validation: Json
    rollback_of: int | None
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilShare:
    """Leave for another tenant, or for one key of it; each permission includes the former."""

    share_id: UUID
    util_id: UUID
    tenant_id: UUID
    grantee_tenant_id: UUID | None
    grantee_key_id: str | None
    permission: Permission
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilRule:
    """A rule of a tenant's own for the validator."""

    tenant_id: UUID
    rule_id: str
    severity: str
    kind: str
    pattern: str
    message: str
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What a tenant's executions may take at most, and how bad a util it still runs."""

    timeout_seconds: float
    memory_limit_mb: int
    cpu_limit: float
    security_score: int

    def within(self, wanted: UtilLimits) -> UtilLimits:
        """Return what is granted of `wanted`."""
        return UtilLimits(
            timeout_seconds=min(wanted.timeout_seconds, self.timeout_seconds),
            memory_limit_mb=min(wanted.memory_limit_mb, self.memory_limit_mb),
            cpu_limit=min(wanted.cpu_limit, self.cpu_limit),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """Everything that an execution is decided on: the head, the version, the caller's ceilings.

    `version` is None when the util has no such version, or none is active and none was named.
    """

    util: Util
    version: UtilVersion | None
    ceilings: Ceilings
