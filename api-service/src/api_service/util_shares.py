"""Shares of a util: who else may read, run or change it."""

from __future__ import annotations

from uuid import UUID

from flask import Response

from api_service.call import Call
from api_service.changing import changing
from api_service.deps import Deps
from api_service.documents import answer
from api_service.incoming import id_of, query, read_json
from api_service.util_documents import share_document, util_path
from csb_core import util_shares
from csb_core.db import tenant_transaction


def list_shares(deps: Deps, call: Call, util_id: str) -> Response:
    """Answer with the shares that the caller may see: all of its own util's, else its own."""
    query(frozenset())
    caller = call.caller
    with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
        shares = util_shares.list_of(conn, id_of(util_id, "util"))
    return answer({"items": [share_document(share) for share in shares]})


def share_util(deps: Deps, call: Call, util_id: str) -> Response:
    """Let another tenant, or one key, use a util; sharing again changes for what."""
    query(frozenset())
    wanted, caller = id_of(util_id, "util"), call.caller
    body = deps.contract.check_shape("ShareRequest", read_json(deps.settings))
    grantee = UUID(body["tenant_id"]) if "tenant_id" in body else body["key_id"]
    with changing(deps, call, wanted) as conn:
        share = util_shares.share(
            conn, wanted, grantee, permission=body["permission"], by=caller.key_id
        )
    return answer(
        share_document(share), 201, Location=f"{util_path(wanted)}/shares/{share.share_id}"
    )


def unshare_util(deps: Deps, call: Call, util_id: str, share_id: str) -> Response:
    """Take a share back; what was accepted under it still runs."""
    query(frozenset())
    wanted, share = id_of(util_id, "util"), id_of(share_id, "share")
    with changing(deps, call, wanted) as conn:
        util_shares.unshare(conn, wanted, share)
    return answer({"share_id": share, "status": "revoked"})
