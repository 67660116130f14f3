"""Bring Amazon GuardDuty findings into one flat shape, whichever of AWS's two spellings they have.

EventBridge writes `accountId`, GetFindings writes `AccountId`. Takes a finding, an EventBridge
event ({"detail": ...}), an answer of GetFindings ({"Findings": [...]}) or a list of any of them.
"""

from __future__ import annotations

import re

#: PURPOSE:RESOURCE/FAMILY.MECHANISM!ARTIFACT, the last two may be missing.
TYPE = re.compile(r"([^:/]{1,80}):([^:/]{1,80})/([^.!]{1,120})(?:\.([^!]{1,120}))?(?:!(.{1,120}))?")

PARTS = ("purpose", "resource", "family", "mechanism", "artifact")

LABELS = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (1.0, "low"))


def transform(data: object) -> dict:
    """Return {"findings": [...], "skipped": [{index, reason}]}, the most severe first."""
    findings: list[dict] = []
    skipped: list[dict] = []
    for index, finding in enumerate(findings_of(data)):
        if not isinstance(finding, dict):
            skipped.append({"index": index, "reason": "not an object"})
        elif not pick(finding, "type") or pick(finding, "severity") is None:
            skipped.append({"index": index, "reason": "no type or no severity"})
        else:
            findings.append(normalised(finding))
    findings.sort(key=lambda finding: -finding["severity"]["score"])
    return {"findings": findings, "skipped": skipped}


def findings_of(data: object) -> list:
    """Return the findings in whatever they were wrapped."""
    if isinstance(data, list):
        return [finding for item in data for finding in findings_of(item)]
    if isinstance(data, dict):
        wrapped = pick(data, "findings")
        if isinstance(wrapped, list):
            return wrapped
        if isinstance(data.get("detail"), dict):
            return [data["detail"]]
    return [data]


def pick(value: object, *path: str) -> object:
    """Walk along the path, each name with its first letter small or great; None where it ends."""
    for name in path:
        if not isinstance(value, dict):
            return None
        great = name[:1].upper() + name[1:]
        value = value.get(name, value.get(great))
    return value


def normalised(finding: dict) -> dict:
    """Return one finding in our shape; what it does not say is null."""
    score = float(pick(finding, "severity"))
    return {
        "id": pick(finding, "id"),
        "title": pick(finding, "title"),
        "type": type_of(pick(finding, "type")),
        "severity": {"score": score, "label": label_of(score)},
        "account": pick(finding, "accountId"),
        "region": pick(finding, "region"),
        "first_seen": pick(finding, "service", "eventFirstSeen"),
        "last_seen": pick(finding, "service", "eventLastSeen"),
        "count": pick(finding, "service", "count") or 1,
        "archived": bool(pick(finding, "service", "archived")),
        "resource": resource_of(pick(finding, "resource")),
        "remote": remote_of(pick(finding, "service", "action")),
    }


def type_of(text: str) -> dict:
    """Take the finding's type apart."""
    matched = TYPE.fullmatch(text)
    parts = matched.groups() if matched else (None,) * len(PARTS)
    return {"name": text, **dict(zip(PARTS, parts, strict=True))}


def label_of(score: float) -> str:
    """Return AWS's word for a severity."""
    return next((label for least, label in LABELS if score >= least), "informational")


def resource_of(resource: object) -> dict:
    """Return what the finding is about: its kind, its id, and who used it."""
    kind = pick(resource, "resourceType")
    buckets = pick(resource, "s3BucketDetails")
    bucket = buckets[0] if isinstance(buckets, list) and buckets else None
    places = {
        "Instance": pick(resource, "instanceDetails", "instanceId"),
        "AccessKey": pick(resource, "accessKeyDetails", "accessKeyId"),
        "S3Bucket": pick(bucket, "arn") or pick(bucket, "name"),
        "EKSCluster": pick(resource, "eksClusterDetails", "arn"),
        "Lambda": pick(resource, "lambdaDetails", "functionArn"),
        "RDSDBInstance": pick(resource, "rdsDbInstanceDetails", "dbInstanceArn"),
        "Container": pick(resource, "containerDetails", "id"),
    }
    return {
        "kind": kind,
        "id": places.get(kind),
        "user": pick(resource, "accessKeyDetails", "userName"),
        "user_type": pick(resource, "accessKeyDetails", "userType"),
    }


def remote_of(action: object) -> dict:
    """Return the other side: its addresses and countries, the domain asked for, the call made."""
    details = [
        pick(action, name)
        for name in ("awsApiCallAction", "networkConnectionAction", "kubernetesApiCallAction")
    ]
    probes = pick(action, "portProbeAction", "portProbeDetails")
    details += probes if isinstance(probes, list) else []
    sides = [side for one in details if (side := pick(one, "remoteIpDetails"))]
    addresses = [pick(side, "ipAddressV4") or pick(side, "ipAddressV6") for side in sides]
    countries = [pick(side, "country", "countryName") for side in sides]
    return {
        "kind": pick(action, "actionType"),
        "addresses": unique(addresses),
        "countries": unique(countries),
        "domain": pick(action, "dnsRequestAction", "domain"),
        "api": pick(action, "awsApiCallAction", "api"),
    }


def unique(values: list) -> list:
    """Return what is there, each once and in its order."""
    return list(dict.fromkeys(value for value in values if value))
