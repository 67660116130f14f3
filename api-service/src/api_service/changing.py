"""The transactions in which a caller changes utils, shares or rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from api_service.call import Call
from api_service.deps import Deps
from api_service.errors import ChangeUnknown
from csb_core.db import Connection, tenant_transaction
from csb_core.errors import StoreUnavailable


@contextmanager
def changing(deps: Deps, call: Call, util_id: UUID | None = None) -> Iterator[Connection]:
    """A transaction of the caller's; who remembers this util forgets it when it ends.

    Raises what `tenant_transaction` does, and ChangeUnknown when PostgreSQL went away while it
    committed.
    """
    caller, is_complete = call.caller, False
    try:
        with tenant_transaction(deps.pool, caller.tenant_id, key_id=caller.key_id) as conn:
            yield conn
            is_complete = True  # what follows is the COMMIT, and its acknowledgement may be lost
    except StoreUnavailable as exc:
        if is_complete:
            raise ChangeUnknown("whether this was done is not known") from exc
        raise
    finally:
        if is_complete and util_id is not None:
            deps.catalogue.tell(util_id)
