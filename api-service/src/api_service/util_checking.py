"""Asks the validator about a util's code, for the tenant that is to store it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from api_service.call import Call
from api_service.deps import Deps
from api_service.errors import CodeFault, CodeRefused
from api_service.runtime_seen import modules_of, read_runtime
from api_service.util_bodies import Said
from csb_core import util_ceilings, util_rules
from csb_core.db import tenant_transaction
from csb_core.faults import MOST_FAULTS
from csb_core.lint import Declared, Finding, History, LintLimits, OwnRule, Validation
from csb_core.lint.values import SEVERITIES, Severity
from csb_core.models import Json
from csb_core.util_models import Ceilings, UtilRule


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What a tenant's administrators and operators ask of every util of theirs."""

    ceilings: Ceilings
    rules: tuple[OwnRule, ...]


def house_of(deps: Deps, call: Call) -> House:
    """Return the caller's tenant's own rules and ceilings."""
    with tenant_transaction(deps.pool, call.caller.tenant_id) as conn:
        ceilings = util_ceilings.of(conn, call.caller.tenant_id)
        rules = util_rules.list_all(conn)
    return House(ceilings=ceilings, rules=tuple(_own(rule) for rule in rules))


def verdict(
    deps: Deps,
    house: House,
    said: Said,
    *,
    description: str,
    owner: str,
    history: History | None = None,
) -> Validation:
    """Return what the validator says, which never executes anything; raises LintUnavailable.

    No connection is held meanwhile.
    """
    return deps.validator.validate(
        said.code,
        kind=said.kind,
        declared=Declared(
            description=description,
            owner=owner,
            dependencies=tuple(said.parameters["dependencies"]),
            input_schema=said.parameters["input_schema"],
            output_schema=said.parameters["output_schema"],
            limits=said.execution_config,
        ),
        rules=house.rules,
        allowed_packages=modules_of(read_runtime(deps)),
        history=history,
        limits=LintLimits(source_bytes=deps.settings.util_max_code_bytes),
        minimum_score=house.ceilings.security_score,
    )


def require_valid(deps: Deps, validation: Validation) -> Json:
    """Return the verdict as it is stored; raises CodeRefused unless we only advise."""
    if not validation.is_valid and not deps.is_advisory:
        gravest = sorted(validation.validation_errors, key=lambda f: SEVERITIES.index(f.severity))
        raise CodeRefused([_fault(finding) for finding in gravest[:MOST_FAULTS]])
    return validation.document()


def _own(rule: UtilRule) -> OwnRule:
    return OwnRule(
        rule_id=rule.rule_id,
        kind=rule.kind,
        pattern=rule.pattern,
        severity=cast("Severity", rule.severity),
        message=rule.message,
    )


def _fault(finding: Finding) -> CodeFault:
    return CodeFault(
        pointer="/code",
        message=finding.message,
        hint=finding.remedy,
        rule=finding.rule,
        line=finding.line,
        col=finding.col,
        severity=finding.severity,
    )
