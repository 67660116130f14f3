"""Whether a caller may do what it asks: its own policies, narrowed by its session policy."""

from __future__ import annotations

from worker_service_aws.local_aws import directory
from worker_service_aws.local_aws.call import Call
from worker_service_aws.local_aws.callers import Caller
from worker_service_aws.local_aws.policy import Context, Document, Ruling, rule
from worker_service_aws.local_aws.refusal import access_denied

_KINDS = {"UserName": "user", "RoleName": "role", "GroupName": "group"}


def require_permission(caller: Caller, call: Call) -> None:
    """Return if the caller may make the call; raise AccessDenied as AWS words it."""
    if caller.kind == "root" or call.action == "sts:GetCallerIdentity":
        return

    arn, shown = resource_of(caller.account_id, call)
    require_allowed(caller, call.action, arn, shown, context_of(caller, call))


def require_allowed(caller: Caller, action: str, arn: str, shown: str, context: Context) -> None:
    """Ask session policy and identity policies; both must allow, neither may deny."""
    layers: list[tuple[str, list[Document]]] = [("identity-based", caller.policies())]
    if caller.session_policy is not None:
        layers.insert(0, ("session", [caller.session_policy]))

    rulings = [(name, rule(documents, action, arn, context)) for name, documents in layers]
    refusal = f"User: {caller.arn} is not authorized to perform: {action} on resource: {shown}"
    for name, ruling in rulings:
        if ruling is Ruling.DENIED:
            article = "an" if name == "identity-based" else "a"
            raise access_denied(f"{refusal} with an explicit deny in {article} {name} policy")
    for name, ruling in rulings:
        if ruling is Ruling.NOT_ALLOWED:
            raise access_denied(f"{refusal} because no {name} policy allows the {action} action")


def resource_of(account_id: str, call: Call) -> tuple[str, str]:
    """The ARN that policies are asked about, and the form in which IAM shows it."""
    for parameter, kind in _KINDS.items():
        if parameter in call.parameters:
            name = call.parameters[parameter]
            return directory.principal_arn(account_id, kind, name), f"{kind} {name}"
    if "PolicySourceArn" in call.parameters:
        source = call.parameters["PolicySourceArn"]
        return source, source
    if "PolicyArn" in call.parameters:
        return call.parameters["PolicyArn"], f"policy {call.parameters['PolicyArn']}"
    return "*", "*"


def context_of(caller: Caller, call: Call) -> dict[str, str]:
    """The condition keys that the call brings with it."""
    keys = {
        "iam:PolicyARN": call.parameters.get("PolicyArn"),
        "iam:PermissionsBoundary": call.parameters.get("PermissionsBoundary"),
        "sts:ExternalId": call.parameters.get("ExternalId"),
        "sts:RoleSessionName": call.parameters.get("RoleSessionName"),
        "sts:SourceIdentity": call.parameters.get("SourceIdentity"),
        "aws:PrincipalArn": caller.principal_arn,
        "aws:PrincipalAccount": caller.account_id,
        "aws:RequestedRegion": call.region,
    }
    return {key: value for key, value in keys.items() if value is not None}
