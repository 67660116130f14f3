"""POST .../activate and .../deactivate: which version runs, once its test cases have passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from flask import Response

from api_service.call import Call
from api_service.changing import changing
from api_service.create import require_accepted
from api_service.deps import Deps
from api_service.documents import answer, path_of, request_bytes
from api_service.errors import CasesFailed
from api_service.incoming import id_of, query, whole
from api_service.pinning import SANDBOX, draft_for
from api_service.polling import wait_for, wait_seconds
from api_service.util_documents import (
    etag_of,
    execution_of_draft,
    execution_of_request,
    util_document,
)
from api_service.util_update import expected_revision
from csb_core import util_ceilings, util_executions, util_status, util_store, util_versions
from csb_core.db import tenant_transaction
from csb_core.errors import Conflict, StoreUnavailable
from csb_core.models import Json
from csb_core.states import FINAL, Status
from csb_core.util_models import Util, UtilVersion

TEST: Final = "test_util"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """What an activation starts from."""

    util: Util
    version: UtilVersion
    least_score: int
    expected: int | None


def activate_util(deps: Deps, call: Call, util_id: str) -> Response:
    """Make a version the one that runs: 200. One with test cases is tested in the sandbox first.

    202 while its test runs, with where to look; then ask again, or use ?wait=. 409 when it failed.
    """
    asked = query(frozenset({"version", "wait"}))
    seconds = wait_seconds(asked.get("wait"))
    number = whole(asked, "version", default=0, most=2**31 - 1) or None
    standing = _standing(deps, call, id_of(util_id, "util"), number)
    try:
        return _activated(deps, call, standing)
    except Conflict:
        if not standing.version.test_cases or _is_unfit(deps, standing):
            raise

    test = _test(deps, call, standing.version)
    if seconds:
        test = _awaited(deps, call, test, seconds)
    if test["status"] == Status.SUCCESS:
        return _activated(deps, call, standing)
    if test["status"] in FINAL:
        raise CasesFailed(
            f"the test cases of version {standing.version.version} have not passed: see "
            f"{path_of(test['correlation_id'])}"
        )
    return answer(test, 202, Location=path_of(test["correlation_id"]))


def deactivate_util(deps: Deps, call: Call, util_id: str) -> Response:
    """Let nobody run a util until it is activated again; what is accepted already still runs."""
    query(frozenset())
    wanted, caller = id_of(util_id, "util"), call.caller
    with changing(deps, call, wanted) as conn:
        util = util_status.deactivate(
            conn,
            wanted,
            by=caller.key_id,
            expected=expected_revision(util_store.seen(conn, wanted)),
        )
        version = util_versions.get(conn, wanted, util.version)
    return answer(util_document(util, version), ETag=etag_of(util))


def _standing(deps: Deps, call: Call, wanted: UUID, number: int | None) -> _Standing:
    caller = call.caller
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        util = util_store.seen(conn, wanted)
        version = util_versions.get(conn, wanted, number or util.version)
        ceilings = util_ceilings.of(conn, caller.tenant_id)
    return _Standing(
        util=util,
        version=version,
        least_score=ceilings.security_score,
        expected=expected_revision(util),
    )


def _activated(deps: Deps, call: Call, standing: _Standing) -> Response:
    caller, wanted = call.caller, standing.util.util_id
    with changing(deps, call, wanted) as conn:
        util = util_status.activate(
            conn,
            wanted,
            standing.version.version,
            by=caller.key_id,
            expected=standing.expected,
            advisory=deps.is_advisory,
        )
        latest = util_versions.get(conn, wanted, util.version)
    return answer(util_document(util, latest), ETag=etag_of(util))


def _is_unfit(deps: Deps, standing: _Standing) -> bool:
    """Whether the version could not become active even if its tests passed."""
    validation = standing.version.validation
    return not deps.is_advisory and (
        not validation["is_valid"] or validation["security_score"] < standing.least_score
    )


def _test(deps: Deps, call: Call, version: UtilVersion) -> Json:
    """Return the test of this version that is under way, or begin one."""
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        running = util_executions.unfinished_test(conn, version.util_id, version.version)
    if running is not None:
        return execution_of_request(request_bytes(running))
    payload = {
        "cloud_provider": SANDBOX,
        "action": TEST,
        "parameters": {"util_id": str(version.util_id), "version": version.version},
    }
    draft = draft_for(deps, call, payload)
    accepted = require_accepted(draft, deps.submitter.submit([draft])[0])
    return execution_of_draft(draft, accepted)


def _awaited(deps: Deps, call: Call, test: Json, seconds: float) -> Json:
    """Return the test when it has ended, or as it is by then; as it was when nobody can tell."""
    wanted = UUID(str(test["correlation_id"]))
    try:
        shown = wait_for(
            deps, call.caller.tenant_id, wanted, seconds, is_awaited=lambda shown: shown.is_final
        )
    except StoreUnavailable:
        return test
    return execution_of_request(shown.document)
