"""Utils, their versions, shares, rules and executions, as schema.json describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from api_service.documents import links as request_links
from api_service.documents import pin_document, utc
from csb_core.models import Draft, Json
from csb_core.requests import Accepted
from csb_core.util_models import Util, UtilRule, UtilShare, UtilVersion
from csb_core.util_versions import VersionLine

UTILS: Final = "/api/v1/utils"
UTIS: Final = "/api/v1/utis"


def util_path(util_id: UUID) -> str:
    """Return where a util is found."""
    return f"{UTILS}/{util_id}"


def etag_of(util: Util) -> str:
    """Return the ETag of a util."""
    return f'"{util.revision}"'


def util_document(util: Util, version: UtilVersion) -> Json:
    """Return a util with its latest version."""
    return {
        **_head(util),
        "code": version.code,
        "digest": version.digest,
        "parameters": version.parameters,
        "metadata": {**_metadata(util), "version": version.label or ""},
        "validation": version.validation,
        "execution_config": version.execution_config,
        "test_cases": version.test_cases,
    }


def util_summary(util: Util) -> Json:
    """Return a util as a list shows it."""
    return {**_head(util), "metadata": _metadata(util)}


def _head(util: Util) -> Json:
    return {
        "util_id": util.util_id,
        "tenant_id": util.tenant_id,
        "user_id": util.owner,
        "name": util.name,
        "description": util.description,
        "kind": util.kind,
        "language": util.language,
        "status": util.status,
        "version": util.version,
        "active_version": util.active_version,
        "revision": util.revision,
        "access": util.access,
        "created_at": utc(util.created_at),
        "updated_at": utc(util.updated_at),
        "created_by": util.created_by,
        "updated_by": util.updated_by,
        "links": _links(util),
    }


def _metadata(util: Util) -> Json:
    return {"tags": util.tags, "category": util.category or ""}


def _links(util: Util) -> Json:
    here = util_path(util.util_id)
    found = {
        "self": here,
        "versions": f"{here}/versions",
        "execute": f"{here}/execute",
        "executions": f"{here}/executions",
        "shares": f"{here}/shares",
    }
    if util.access in {"owner", "edit"}:
        found["activate"] = f"{here}/activate"
        if util.status == "active":
            found["deactivate"] = f"{here}/deactivate"
    return found


def deleted_document(util_id: UUID) -> Json:
    """Return what a deletion answers with."""
    return {"util_id": util_id, "status": "deleted", "deleted_at": datetime.now(UTC)}


def version_document(version: UtilVersion, kind: str) -> Json:
    """Return one version, whole."""
    return {
        "util_id": version.util_id,
        "version": version.version,
        "digest": version.digest,
        "label": version.label,
        "kind": kind,
        "code": version.code,
        "parameters": version.parameters,
        "execution_config": version.execution_config,
        "test_cases": version.test_cases,
        "validation": version.validation,
        "rollback_of": version.rollback_of,
        "created_at": utc(version.created_at),
        "created_by": version.created_by,
    }


def version_list(util_id: UUID, lines: Sequence[VersionLine], next_cursor: str | None) -> Json:
    """Return one page of a util's versions."""
    return {"items": [_line(util_id, line) for line in lines], "next_cursor": next_cursor}


def _line(util_id: UUID, line: VersionLine) -> Json:
    return {
        "version": line.version,
        "digest": line.digest,
        "label": line.label,
        "is_valid": line.validation["is_valid"],
        "security_score": line.validation["security_score"],
        "rollback_of": line.rollback_of,
        "created_at": utc(line.created_at),
        "created_by": line.created_by,
        "links": {"self": f"{util_path(util_id)}/versions/{line.version}"},
    }


def share_document(share: UtilShare) -> Json:
    """Return who may do what."""
    return {
        "share_id": share.share_id,
        "util_id": share.util_id,
        "tenant_id": share.grantee_tenant_id,
        "key_id": share.grantee_key_id,
        "permission": share.permission,
        "created_at": utc(share.created_at),
        "created_by": share.created_by,
    }


def rule_document(rule: UtilRule) -> Json:
    """Return a rule of a tenant's own."""
    shown = asdict(rule)
    del shown["tenant_id"]
    return {**shown, "created_at": utc(rule.created_at)}


def execution_of_draft(draft: Draft, accepted: Accepted) -> Json:
    """Return an execution that was accepted just now."""
    assert draft.util is not None
    assert accepted.status is not None
    return {
        "execution_id": draft.correlation_id,
        "correlation_id": draft.correlation_id,
        **pin_document(draft.util),
        "action": draft.payload["action"],
        "status": accepted.status,
        "result": None,
        "error": None,
        "links": request_links(draft.correlation_id, accepted.status),
    }


def execution_of_request(document: bytes) -> Json:
    """Return an execution by the document of the request that it is."""
    request: dict[str, Any] = orjson.loads(document)
    return {
        "execution_id": request["correlation_id"],
        "correlation_id": request["correlation_id"],
        **request["util"],
        **{name: request[name] for name in ("action", "status", "result", "error", "links")},
    }
