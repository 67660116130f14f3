"""A tenant's own validation rules: its administrators add to ours, and take nothing away."""

from __future__ import annotations

import re
from typing import Final

from flask import Response

from api_service.call import Call
from api_service.changing import changing
from api_service.deps import Deps
from api_service.documents import answer
from api_service.errors import BadRequest
from api_service.incoming import query, read_json
from api_service.util_documents import rule_document
from csb_core import util_rules
from csb_core.db import tenant_transaction
from csb_core.errors import Conflict, NotFound
from csb_core.lint import OwnRule

_ID: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_MOST: Final = 100


def list_rules(deps: Deps, call: Call) -> Response:
    """Answer with the tenant's own rules."""
    query(frozenset())
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        rules = util_rules.list_all(conn)
    return answer({"items": [rule_document(rule) for rule in rules]})


def put_rule(deps: Deps, call: Call, rule_id: str) -> Response:
    """Add a rule, or replace it; it holds for what is validated from here on."""
    query(frozenset())
    body = deps.contract.check_shape("RuleRequest", read_json(deps.settings))
    if not _ID.fullmatch(rule_id):
        raise BadRequest("a rule's id has 1 to 64 letters, digits, _ . and -, a letter first")
    rule = OwnRule(
        rule_id=rule_id,
        kind=body["kind"],
        pattern=body.get("pattern", "*"),
        severity=body.get("severity", "error"),
        message=body["message"],
    )
    rule.check()
    with changing(deps, call) as conn:
        known = {known.rule_id for known in util_rules.list_all(conn)}
        for other in known - {rule_id}:
            if OwnRule(rule_id=other, kind=rule.kind).name == rule.name:
                raise Conflict(f"the rule {other} is reported under the same name, {rule.name}")
        if rule_id not in known and len(known) >= _MOST:
            raise Conflict(f"a tenant has at most {_MOST} rules of its own")
        stored, is_new = util_rules.put(
            conn,
            rule_id,
            severity=rule.severity,
            kind=rule.kind,
            pattern=rule.pattern,
            message=rule.message,
            by=call.caller.key_id,
        )
    return answer(rule_document(stored), 201 if is_new else 200)


def delete_rule(deps: Deps, call: Call, rule_id: str) -> Response:
    """Drop a rule."""
    query(frozenset())
    if not _ID.fullmatch(rule_id):
        raise NotFound("this tenant has no rule with this id")
    with changing(deps, call) as conn:
        util_rules.delete(conn, rule_id)
    return answer({"rule_id": rule_id, "status": "deleted"})
