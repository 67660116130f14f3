"""Bring AWS CloudTrail records into one flat shape: who did what to what, from where, and whether.

Takes a single record, a log file ({"Records": [...]}), an EventBridge event ({"detail": ...}) or a
list of any of them.
"""

from __future__ import annotations

READING = ("Get", "List", "Describe", "Head", "Lookup", "Search", "Query", "Scan", "BatchGet")

#: Error codes that mean "you may not", by their beginning.
DENIED = ("AccessDenied", "Unauthorized", "Client.UnauthorizedOperation", "Forbidden")

#: Where a record names the thing that was acted on, the more telling first.
TARGETS = (
    "userName", "roleName", "groupName", "policyArn", "roleArn", "bucketName", "functionName",
    "secretId", "keyId", "instanceId", "groupId", "dBInstanceIdentifier", "stackName", "trailName",
    "name",
)  # fmt: skip


def transform(data: object) -> dict:
    """Return {"events": [...], "skipped": [{index, reason}]}."""
    events: list[dict] = []
    skipped: list[dict] = []
    for index, record in enumerate(records_of(data)):
        if not isinstance(record, dict):
            skipped.append({"index": index, "reason": "not an object"})
        elif "eventName" not in record or "eventSource" not in record:
            skipped.append({"index": index, "reason": "neither eventName nor eventSource"})
        else:
            events.append(normalised(record))
    return {"events": events, "skipped": skipped}


def records_of(data: object) -> list:
    """Return the records in whatever they were wrapped."""
    if isinstance(data, list):
        return [record for item in data for record in records_of(item)]
    if isinstance(data, dict):
        if isinstance(data.get("Records"), list):
            return data["Records"]
        if isinstance(data.get("detail"), dict):
            return [data["detail"]]
    return [data]


def normalised(record: dict) -> dict:
    """Return one record in our shape; what it does not say is null."""
    service = record["eventSource"].removesuffix(".amazonaws.com")
    return {
        "id": record.get("eventID"),
        "time": record.get("eventTime"),
        "account": record.get("recipientAccountId"),
        "region": record.get("awsRegion"),
        "service": service,
        "action": f"{service}:{record['eventName']}",
        "reads_only": reads_only(record),
        "actor": actor_of(record.get("userIdentity") or {}),
        "source": source_of(record),
        "target": target_of(record),
        "resources": resources_of(record),
        "outcome": outcome_of(record),
    }


def reads_only(record: dict) -> bool:
    """Say whether nothing was changed; older records do not say it, their names do."""
    said = record.get("readOnly")
    if isinstance(said, str):
        return said.lower() == "true"
    return said if isinstance(said, bool) else record["eventName"].startswith(READING)


def actor_of(identity: dict) -> dict:
    """Return who acted. Behind an assumed role stands the role that issued the session."""
    session = identity.get("sessionContext") or {}
    issuer = session.get("sessionIssuer") or {}
    attributes = session.get("attributes") or {}
    arn = identity.get("arn")
    name = identity.get("userName") or issuer.get("userName") or identity.get("invokedBy")
    return {
        "type": identity.get("type", "Unknown"),
        "name": name,
        "arn": arn,
        "account": identity.get("accountId"),
        "role_arn": issuer.get("arn"),
        "session_name": arn.rpartition("/")[2] if arn and ":assumed-role/" in arn else None,
        "access_key_id": identity.get("accessKeyId"),
        "mfa": str(attributes.get("mfaAuthenticated", "false")).lower() == "true",
        "is_root": identity.get("type") == "Root",
    }


def source_of(record: dict) -> dict:
    """Return where the call came from; AWS's own services call by their name."""
    address = record.get("sourceIPAddress")
    service = isinstance(address, str) and address.endswith((".amazonaws.com", "AWS Internal"))
    return {
        "ip": None if service else address,
        "aws_service": address if service else None,
        "user_agent": record.get("userAgent"),
    }


def target_of(record: dict) -> str | None:
    """Return the name of what was acted on, as the parameters say it."""
    parameters = record.get("requestParameters")
    if not isinstance(parameters, dict):
        return None
    named = (parameters.get(name) for name in TARGETS)
    return next((value for value in named if isinstance(value, str) and value), None)


def resources_of(record: dict) -> list[str]:
    """Return the ARNs that the record lists, each once."""
    listed = (item.get("ARN") or item.get("arn") for item in record.get("resources") or [])
    return list(dict.fromkeys(arn for arn in listed if arn))


def outcome_of(record: dict) -> dict:
    """Say how it ended: success, denied or failure. A console login says so in its answer."""
    code = record.get("errorCode")
    answer = record.get("responseElements")
    login = answer.get("ConsoleLogin") if isinstance(answer, dict) else None
    if code is None and login == "Failure":
        code = "ConsoleLoginFailure"
    status = "success"
    if code is not None:
        status = "denied" if code.startswith(DENIED) else "failure"
    return {"status": status, "code": code, "message": record.get("errorMessage")}
