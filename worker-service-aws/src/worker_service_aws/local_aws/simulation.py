"""SimulatePrincipalPolicy, which moto does not know: what a role's own policies say."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4
from xml.sax.saxutils import escape

from worker_service_aws.local_aws import directory
from worker_service_aws.local_aws.call import Call
from worker_service_aws.local_aws.policy import Document, Ruling, keys_asked, rule
from worker_service_aws.local_aws.refusal import Answer, Refusal

ACTION = "iam:SimulatePrincipalPolicy"

_DECISIONS = {
    Ruling.ALLOWED: "allowed",
    Ruling.DENIED: "explicitDeny",
    Ruling.NOT_ALLOWED: "implicitDeny",
}


def simulate(call: Call) -> Answer:
    """Answer for one resource, or for none in particular, with no context; raises Refusal."""
    source = call.parameters["PolicySourceArn"]
    role = directory.role_by_arn(source)
    if role is None:
        raise Refusal("NoSuchEntity", f"The entity {source} cannot be found.", status=404)
    policies = directory.policies_of_role(role.account_id, role.name)
    resource = call.parameters.get("ResourceArns.member.1", "*")
    members = (_member(policies, action, resource) for action in _actions(call))
    request_id = str(uuid4())
    body = (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        "<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated>"
        f"<EvaluationResults>{''.join(members)}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult><ResponseMetadata>"
        f"<RequestId>{request_id}</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>"
    )
    return Answer(
        status="200 OK",
        headers=(("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)),
        body=body.encode(),
    )


def _actions(call: Call) -> Iterator[str]:
    number = 1
    while action := call.parameters.get(f"ActionNames.member.{number}"):
        yield action
        number += 1


def _member(policies: list[Document], action: str, resource: str) -> str:
    decision = _DECISIONS[rule(policies, action, resource, {})]
    keys = sorted(keys_asked(policies, action, resource))
    missing = "".join(f"<member>{escape(key)}</member>" for key in keys)
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
        f"<EvalDecision>{decision}</EvalDecision>"
        f"<ResourceSpecificResults><member><EvalResourceName>{escape(resource)}</EvalResourceName>"
        f"<EvalResourceDecision>{decision}</EvalResourceDecision>"
        f"<MissingContextValues>{missing}</MissingContextValues></member></ResourceSpecificResults>"
        "</member>"
    )
