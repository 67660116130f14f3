"""Makes a draft of a checked payload; what the sandbox is to run is pinned to it here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final
from uuid import UUID

from api_service.auth import Scope, authorise
from api_service.call import Call
from api_service.catalogue import Entry
from api_service.deps import Deps
from api_service.errors import UtilNotActive
from api_service.incoming import draft_of
from csb_core import log, request_search
from csb_core.db import tenant_transaction
from csb_core.errors import Conflict, NotFound, NotPermitted
from csb_core.faults import Fault, Invalid
from csb_core.models import Draft, Json, PinnedUtil, Request, UtilLimits
from csb_core.pins import limits_of
from csb_core.request_search import Filters
from csb_core.util_models import Ceilings, Runnable
from csb_core.value_schema import Allowance

SANDBOX: Final = "sandbox"
RUN: Final = "run_util"

#: Where a payload's own fields stand in the body of POST /api/v1/requests.
_IN_REQUEST: Final = "/parameters"


def draft_for(
    deps: Deps,
    call: Call,
    payload: Json,
    *,
    at: str = _IN_REQUEST,
    allowance: Allowance | None = None,
) -> Draft:
    """Return a checked payload as a draft; `at` is where its parameters stand in the body.

    For the sandbox it raises Forbidden, NotFound, NotPermitted, UtilNotActive, and Invalid for
    limits above the tenant's ceilings, and for an input that the input_schema does not allow.
    """
    if payload["cloud_provider"] != SANDBOX:
        return draft_of(call, payload)
    authorise(call.caller, Scope.UTILS_EXECUTE)
    try:
        pin = _pin(deps, call, payload, at, allowance)
    except (NotFound, NotPermitted, Conflict, Invalid):
        # What was accepted before stays accepted, whatever has become of its util.
        earlier = _pin_of_earlier(deps, call, payload.get("client_request_id"))
        if earlier is None:
            raise
        pin = earlier
    return draft_of(call, payload, util=pin, advisory=deps.is_advisory)


def draft_again(deps: Deps, call: Call, payload: Json, failed: Request) -> Draft:
    """Return a draft that does again what a request has done: the same version, the same limits."""
    if failed.util is not None:
        authorise(call.caller, Scope.UTILS_EXECUTE)
    return draft_of(
        call,
        payload,
        replay_of=failed.correlation_id,
        util=failed.util,
        advisory=deps.is_advisory,
    )


def _pin(deps: Deps, call: Call, payload: Json, at: str, allowance: Allowance | None) -> PinnedUtil:
    asked = payload["parameters"]
    util_id = UUID(asked["util_id"])
    log.bind(util_id=str(util_id))
    version = int(asked["version"]) if "version" in asked else None  # 2.0 is an integer in JSON
    found = deps.catalogue.find(call.caller, util_id, version)
    if payload["action"] != RUN and isinstance(found, Runnable):
        found = deps.catalogue.entry_of(found)  # what is tested need not be active
    if not isinstance(found, Entry):
        raise _why_not(found, version)
    if found.head.access == "read":
        raise NotPermitted("this util is shared with you for read, not for execute")

    faults = [*_above(found.ceilings, asked.get("limits", {}), f"{at}/limits")]
    schema = found.program.input_schema
    if payload["action"] == RUN and schema is not None:
        faults += schema.faults(asked["input"], f"{at}/input", allowance=allowance)
    if faults:
        raise Invalid(faults)
    return PinnedUtil(
        util_id=util_id,
        version=found.head.number,
        digest=found.head.digest,
        limits=_granted(found, asked.get("limits", {})),
    )


def _why_not(found: Runnable | None, version: int | None) -> NotFound | NotPermitted | Conflict:
    if found is None:
        return NotFound("your key may see no util with this id")
    if found.util.access == "read":
        return NotPermitted("this util is shared with you for read, not for execute")
    if version is not None and found.version is None:
        return NotFound(f"this util has no version {version}")
    return UtilNotActive("this util is not active; POST .../activate makes it so")


def _above(ceilings: Ceilings, asked: Json, at: str) -> Iterator[Fault]:
    for name, wanted in asked.items():
        ceiling = getattr(ceilings, name)
        if wanted > ceiling:
            message = f"{name} is above your tenant's ceiling of {ceiling:g}."
            yield Fault(pointer=f"{at}/{name}", message=message)


def _granted(found: Entry, asked: Json) -> UtilLimits:
    """Return the util's limits, lowered by what was asked, within the tenant's ceilings."""
    config = asdict(found.program.config)
    lowered = {name: min(config[name], asked.get(name, config[name])) for name in config}
    return found.ceilings.within(limits_of(lowered))


def _pin_of_earlier(deps: Deps, call: Call, client_request_id: str | None) -> PinnedUtil | None:
    """Return what the request pins that came under the same key before."""
    if client_request_id is None:
        return None
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        filters = Filters(client_request_id=client_request_id)
        found = request_search.search(conn, filters, before=None, limit=1).requests
    return found[0].util if found else None
