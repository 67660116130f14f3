"""Compare two IAM policy documents by what they mean, and say where the new one gives more.

A statement is taken apart into grants: one effect, action, resource and principal under one
condition. Order, Sid, and one string in place of a list of one make no difference.
"""

from __future__ import annotations

import json

#: What the pieces of a statement are called, the piece itself and its negation.
PIECES = (("Action", "NotAction"), ("Resource", "NotResource"), ("Principal", "NotPrincipal"))

#: More grants than any real policy has; AWS allows 20 KiB of document.
MOST = 20_000

#: Actions by which somebody can give himself more than he was given.
ESCALATING = (
    "iam:*", "iam:passrole", "iam:createaccesskey", "iam:createloginprofile",
    "iam:updateloginprofile", "iam:attachuserpolicy", "iam:attachrolepolicy",
    "iam:attachgrouppolicy", "iam:putuserpolicy", "iam:putrolepolicy", "iam:putgrouppolicy",
    "iam:createpolicyversion", "iam:setdefaultpolicyversion", "iam:updateassumerolepolicy",
    "iam:addusertogroup", "sts:assumerole", "lambda:updatefunctioncode", "kms:putkeypolicy",
    "s3:putbucketpolicy", "organizations:*",
)  # fmt: skip

Grant = tuple[str, str, str, str, str]


def transform(data: dict) -> dict:
    """Return {"equal", "added", "removed", "wider", "findings": [{rule, severity, message}]}."""
    before, after = grants_of(data["before"]), grants_of(data["after"])
    added = sorted(after - before)
    removed = sorted(before - after)
    findings = [finding for grant in added for finding in risks_of(grant)]
    findings += [lifted(grant) for grant in removed if grant[0] == "Deny"]
    findings += unconditioned(added, removed)
    return {
        "equal": not added and not removed,
        "added": [shown(grant) for grant in added],
        "removed": [shown(grant) for grant in removed],
        "wider": any(grant[0] == "Allow" for grant in added) or bool(findings),
        "findings": unique(findings),
    }


def grants_of(policy: dict) -> set[Grant]:
    """Take a policy apart. Raises ValueError when it has more grants than a policy can have."""
    grants: set[Grant] = set()
    for statement in listed(policy.get("Statement")):
        condition = canonical(statement.get("Condition"))
        actions, resources, principals = (pieces(statement, *names) for names in PIECES)
        if len(grants) + len(actions) * len(resources) * len(principals) > MOST:
            raise ValueError(f"more than {MOST} grants")
        grants |= {
            (statement.get("Effect", "Deny"), action.lower(), resource, principal, condition)
            for action in actions
            for resource in resources
            for principal in principals
        }
    return grants


def pieces(statement: dict, name: str, negation: str) -> list[str]:
    """Return the values of one piece; what is negated bears a "not ", what is missing is empty."""
    if negation in statement:
        values = flat(statement[negation])
        return ["not " + " or ".join(sorted(values))]
    return flat(statement[name]) if name in statement else [""]


def flat(value: object) -> list[str]:
    """Return strings: a principal says its kind, as in AWS:arn:..."""
    if isinstance(value, dict):
        return [f"{kind}:{one}" for kind, ones in value.items() for one in listed(ones)]
    return [str(one) for one in listed(value)]


def listed(value: object) -> list:
    """Return a list, of one where there was no list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def canonical(condition: dict | None) -> str:
    """Write a condition so that equal ones are equal: names in order, values as sorted lists."""
    if not condition:
        return ""
    ordered = {
        operator: {key: sorted(map(str, listed(values))) for key, values in sorted(tests.items())}
        for operator, tests in sorted(condition.items())
    }
    return json.dumps(ordered)


def shown(grant: Grant) -> dict:
    """Return a grant as a document."""
    effect, action, resource, principal, condition = grant
    return {
        "effect": effect,
        "action": action,
        "resource": resource or None,
        "principal": principal or None,
        "condition": json.loads(condition) if condition else None,
    }


def risks_of(grant: Grant) -> list[dict]:
    """Say what is dangerous about something that is newly allowed."""
    effect, action, resource, principal, condition = grant
    if effect != "Allow":
        return []
    risks = []
    if principal in {"*", "AWS:*"} and not condition:
        risks.append(finding("public", "critical", f"anybody may {action}"))
    if action in {"*", "*:*"}:
        risks.append(finding("all-actions", "critical", f"everything is allowed on {resource}"))
    elif action.startswith("not "):
        risks.append(finding("not-action", "high", f"allows everything but {action[4:]}"))
    elif action.endswith(":*"):
        risks.append(finding("service-wildcard", "medium", f"all of {action[:-2]} is allowed"))
    if action in ESCALATING:
        where = "everything" if resource == "*" else resource or "the attached resource"
        severity = "high" if resource == "*" else "medium"
        risks.append(finding("escalation", severity, f"{action} on {where} can give more rights"))
    if resource.startswith("not "):
        risks.append(finding("not-resource", "high", f"{action} on all but {resource[4:]}"))
    return risks


def lifted(grant: Grant) -> dict:
    """Say that something is not forbidden any more."""
    return finding("deny-removed", "high", f"{grant[1]} on {grant[2] or '*'} is no longer denied")


def unconditioned(added: list[Grant], removed: list[Grant]) -> list[dict]:
    """Say where a grant has lost its condition."""
    bare = {grant[:4] for grant in added if grant[0] == "Allow" and not grant[4]}
    return [
        finding(
            "condition-removed", "high", f"{grant[1]} on {grant[2] or '*'} has no condition now"
        )
        for grant in removed
        if grant[4] and grant[:4] in bare
    ]


def finding(rule: str, severity: str, message: str) -> dict:
    """Return one finding."""
    return {"rule": rule, "severity": severity, "message": message}


def unique(findings: list[dict]) -> list[dict]:
    """Return each finding once, the gravest first."""
    order = ("critical", "high", "medium")
    once = {(one["rule"], one["message"]): one for one in findings}
    return sorted(once.values(), key=lambda one: order.index(one["severity"]))
