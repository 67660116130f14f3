"""Ten utils as their authors write them, each in a style of its own; none may be refused."""

from __future__ import annotations

from typing import Final

SOUND: Final[dict[str, tuple[str, str]]] = {}

SOUND["indicators"] = (
    "transformer",
    r'''
"""Extract indicators of compromise from free text, and defang them."""
from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from typing import Any, Iterator

PATTERNS = {
    "ipv4": re.compile(r"\b(?:\d{1,3}(?:\.|\[\.\])){3}\d{1,3}\b"),
    "domain": re.compile(r"\b(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}\b", re.I),
    "url": re.compile(r"\bh(?:tt|xx)ps?://[^\s\"'<>]+", re.I),
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "sha256": re.compile(r"\b[a-f0-9]{64}\b", re.I),
    "md5": re.compile(r"\b[a-f0-9]{32}\b", re.I),
    "cve": re.compile(r"\bCVE-\d{4}-\d{4,7}\b", re.I),
}
DEFANGED = {"hxxp": "http", "[.]": ".", "(.)": ".", "[@]": "@", "[:]": ":"}


def refang(text: str) -> str:
    for seen, meant in DEFANGED.items():
        text = text.replace(seen, meant)
    return text


def defang(value: str) -> str:
    return value.replace("http", "hxxp").replace(".", "[.]").replace("@", "[@]")


def _candidates(text: str) -> Iterator[tuple[str, str]]:
    for kind, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            yield kind, match.group(0)


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def transform(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, set[str]] = defaultdict(set)
    for kind, value in _candidates(refang(data.get("text", ""))):
        if kind == "ipv4" and not _is_public(value):
            continue
        found[kind].add(value.lower())
    return {
        "indicators": {kind: sorted(values) for kind, values in found.items()},
        "defanged": {kind: [defang(v) for v in sorted(vs)] for kind, vs in found.items()},
        "total": sum(len(values) for values in found.values()),
    }
''',
)

SOUND["networks"] = (
    "transformer",
    r'''
"""Match addresses against lists of networks; the longest prefix wins."""
import bisect
import ipaddress
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Network:
    first: int
    last: int
    label: str = field(compare=False)

    @classmethod
    def parse(cls, text, label):
        net = ipaddress.ip_network(text, strict=False)
        return cls(int(net.network_address), int(net.broadcast_address), label)

    def __contains__(self, address):
        return self.first <= address <= self.last

    def __repr__(self):
        return f"{type(self).__name__}({self.label!r})"


class Table:
    def __init__(self, networks):
        self._networks = sorted(networks)
        self._starts = [network.first for network in self._networks]

    def __len__(self):
        return len(self._networks)

    def find(self, address):
        at = bisect.bisect_right(self._starts, address)
        while at > 0:
            at -= 1
            if address in self._networks[at]:
                return self._networks[at].label
        return None


def transform(data):
    table = Table(Network.parse(n["cidr"], n["label"]) for n in data["networks"])
    matches, errors = [], []
    for text in data["addresses"]:
        try:
            matches.append({"address": text, "label": table.find(int(ipaddress.ip_address(text)))})
        except ValueError as error:
            errors.append({"address": text, "error": str(error), "kind": type(error).__name__})
    return {"matches": matches, "errors": errors, "networks": len(table)}
''',
)

SOUND["cloudtrail"] = (
    "transformer",
    r'''
"""Normalise CloudTrail records into one flat event each."""
from datetime import datetime, timezone

RISKY = frozenset({"ConsoleLogin", "CreateAccessKey", "PutBucketPolicy", "StopLogging"})
FIELDS = (("event", "eventName"), ("source", "eventSource"), ("region", "awsRegion"),
          ("ip", "sourceIPAddress"), ("agent", "userAgent"), ("error", "errorCode"))


def pick(record, path, default=None):
    for part in path.split("."):
        if not isinstance(record, dict) or part not in record:
            return default
        record = record[part]
    return record


def actor(identity):
    match identity:
        case {"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"arn": arn}}}:
            return {"kind": "role", "arn": arn}
        case {"type": "Root", "accountId": account}:
            return {"kind": "root", "arn": f"arn:aws:iam::{account}:root"}
        case {"type": str(kind), **rest}:
            return {"kind": kind.lower(), "arn": rest.get("arn")}
        case _:
            return {"kind": "unknown", "arn": None}


def normalise(record):
    event = {name: record.get(key) for name, key in FIELDS}
    event["time"] = (
        datetime.fromisoformat(record["eventTime"].replace("Z", "+00:00"))
        .astimezone(timezone.utc)
        .isoformat()
    )
    event["actor"] = actor(record.get("userIdentity") or {})
    event["mfa"] = pick(record, "userIdentity.sessionContext.attributes.mfaAuthenticated") == "true"
    event["access_key"] = pick(record, "userIdentity.accessKeyId", "-")
    event["risky"] = event["event"] in RISKY and not event["mfa"]
    return event


def transform(data):
    events, skipped = [], 0
    for record in data.get("Records", []):
        try:
            events.append(normalise(record))
        except (KeyError, ValueError):
            skipped += 1
    events.sort(key=lambda event: event["time"])
    return {"events": events, "skipped": skipped}
''',
)

SOUND["guardduty"] = (
    "transformer",
    r'''
"""Turn GuardDuty findings into the platform's own form."""
from enum import IntEnum, unique
from typing import NamedTuple


@unique
class Level(IntEnum):
    LOW = 1
    MEDIUM = 4
    HIGH = 7
    CRITICAL = 9

    @classmethod
    def of(cls, severity):
        return max((level for level in cls if severity >= level), default=cls.LOW)


class Finding(NamedTuple):
    id: str
    title: str
    level: Level
    resource: str
    account: str

    def as_dict(self):
        return {**self._asdict(), "level": self.level.name.lower()}


def resource(finding):
    detail = finding.get("Resource", {})
    return (
        (detail.get("InstanceDetails") or {}).get("InstanceId")
        or (detail.get("AccessKeyDetails") or {}).get("UserName")
        or next((b.get("Name") for b in detail.get("S3BucketDetails", [])), None)
        or "unknown"
    )


def transform(data):
    findings = [
        Finding(
            id=raw["Id"],
            title="{} ({})".format(raw.get("Title", "?"), raw["Type"].partition(":")[0]),
            level=Level.of(float(raw.get("Severity", 0))),
            resource=resource(raw),
            account=raw.get("AccountId", ""),
        )
        for raw in data["findings"]
    ]
    return {"findings": [f.as_dict() for f in sorted(findings, key=lambda f: -f.level)]}
''',
)

SOUND["tables"] = (
    "transformer",
    r'''
"""Read CSV, JSON lines or key=value logs into records, whichever it is."""
import csv
import io
import json
import re

PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


def from_csv(text):
    dialect = csv.Sniffer().sniff(text[:4096], delimiters=",;\t|")
    return [dict(row) for row in csv.DictReader(io.StringIO(text), dialect=dialect)]


def from_json(text):
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return found


def from_pairs(text):
    return [
        {key: value.strip('"') for key, value in PAIR.findall(line)}
        for line in text.splitlines()
        if line.strip()
    ]


READERS = {"json": from_json, "pairs": from_pairs, "csv": from_csv}


def guess(text):
    start = text.lstrip()[:1]
    if start in ("{", "["):
        return "json"
    return "pairs" if PAIR.search(text.partition("\n")[0]) else "csv"


def transform(data):
    text = data["text"]
    format = data.get("format") or guess(text)
    try:
        records = READERS[format](text)
    except (csv.Error, json.JSONDecodeError, KeyError) as exc:
        return {"format": format, "records": [], "error": str(exc)}
    return {"format": format, "records": records, "error": None}
''',
)

SOUND["syslog"] = (
    "script",
    r'''
"""Parse a syslog file from the scratch directory, count by host and severity."""
import collections
import json
import logging
import os
import re
import sys
import tempfile
from pathlib import Path

log = logging.getLogger("syslog")
LINE = re.compile(
    r"^<(?P<priority>\d{1,3})>(?P<time>\w{3} [ \d]\d \d{2}:\d{2}:\d{2}) "
    r"(?P<host>\S+) (?P<app>[^\[:\s]+)(?:\[(?P<pid>\d+)\])?: (?P<message>.*)$"
)
SEVERITIES = "emergency alert critical error warning notice info debug".split()


def parse(line):
    match = LINE.match(line)
    if not match:
        return None
    fields = match.groupdict()
    facility, severity = divmod(int(fields.pop("priority")), 8)
    return fields | {"facility": facility, "severity": SEVERITIES[severity]}


def main(params):
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "in.log")
        path.write_text(params["text"], encoding="utf-8")
        counts = collections.Counter()
        unreadable = 0
        with open(path, encoding="utf-8") as lines:
            while line := lines.readline():
                if (event := parse(line.rstrip("\n"))) is None:
                    unreadable += 1
                    continue
                counts[event["host"], event["severity"]] += 1
        log.info("read %d bytes", os.stat(path).st_size)
    top = [{"host": h, "severity": s, "count": n} for (h, s), n in counts.most_common(10)]
    print(json.dumps({"unreadable": unreadable}))
    return {"top": top, "unreadable": unreadable}


if __name__ == "__main__":
    main({"text": ""})
''',
)

SOUND["policies"] = (
    "transformer",
    r'''
"""Compare two IAM policy documents, statement by statement."""
import difflib
import fnmatch
import json
from itertools import product


def listed(value):
    return value if isinstance(value, list) else [value]


def grants(policy):
    found = set()
    for statement in listed(policy.get("Statement", [])):
        effect = statement["Effect"]
        actions = listed(statement.get("Action", statement.get("NotAction", [])))
        resources = listed(statement.get("Resource", "*"))
        found.update((effect, a.lower(), r) for a, r in product(actions, resources))
    return found


def covers(wide, narrow):
    return wide[0] == narrow[0] and all(
        fnmatch.fnmatchcase(n, w) for w, n in zip(wide[1:], narrow[1:], strict=True)
    )


def transform(data):
    before, after = grants(data["before"]), grants(data["after"])
    added = sorted(g for g in after - before if not any(covers(w, g) for w in before))
    removed = sorted(g for g in before - after if not any(covers(w, g) for w in after))
    text = difflib.unified_diff(
        *(json.dumps(data[k], indent=2, sort_keys=True).splitlines() for k in ("before", "after")),
        lineterm="", n=1,
    )
    wider = [g for g in added if g[0] == "Allow" and ("*" in g[1] or g[2] == "*")]
    return {"added": added, "removed": removed, "wider": wider, "diff": list(text)}
''',
)

SOUND["unpacking"] = (
    "transformer",
    r'''
"""Unpack layers of base64, hex, gzip and zlib until none is left, within bounds."""
import base64
import binascii
import gzip
import hashlib
import zlib

MOST_LAYERS = 16
MOST_BYTES = 4 * 1024 * 1024


class TooLarge(Exception):
    """It grows beyond what is unpacked."""


def inflate(data, wbits):
    unpacker = zlib.decompressobj(wbits)
    out = unpacker.decompress(data, MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise TooLarge(f"more than {MOST_BYTES} bytes")
    return out


def layers():
    yield "gzip", lambda d: inflate(d, 31) if d[:2] == b"\x1f\x8b" else None
    yield "zlib", lambda d: inflate(d, 15) if d[:1] == b"\x78" else None
    yield "hex", lambda d: binascii.unhexlify(d.strip()) if len(d) > 8 else None
    yield "base64", lambda d: base64.b64decode(d.strip(), validate=True) if len(d) > 8 else None


def peel(data):
    for name, unpack in layers():
        try:
            inner = unpack(data)
        except (binascii.Error, zlib.error, ValueError):
            continue
        if inner:
            return name, inner
    return None


def transform(data):
    current, names = data["text"].encode(), []
    for _ in range(MOST_LAYERS):
        peeled = peel(current)
        if peeled is None:
            break
        name, current = peeled
        names.append(name)
    return {
        "layers": names,
        "text": current.decode("utf-8", errors="replace"),
        "sha256": hashlib.sha256(current).hexdigest(),
        "size": len(current),
        "packed_again": len(gzip.compress(current)),
    }
''',
)

SOUND["scoring"] = (
    "transformer",
    r'''
"""Score findings by severity, exposure, age and the worth of what they are about."""
import math
import operator
import statistics
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache, partial, reduce

WEIGHTS = {"critical": 10, "high": 7, "medium": 4, "low": 1}


@lru_cache(maxsize=None)
def half_life(days: int) -> float:
    return math.log(2) / max(days, 1)


def rounded(value: float) -> float:
    return float(Decimal(str(value)).quantize(Decimal("0.1"), rounding=ROUND_HALF_UP))


class Scorer:
    __slots__ = ("_now", "_tokens", "_worth")

    def __init__(self, now, worth):
        self._now = now
        self._worth = worth
        self._tokens = 0

    @property
    def tokens(self):
        return self._tokens

    @staticmethod
    def _factor(finding):
        return 1.5 if finding.get("exposed") else 1.0

    def __call__(self, finding):
        self._tokens += 1
        seen = datetime.fromisoformat(finding["seen"])
        age = (self._now - seen) / timedelta(days=1)
        parts = (
            WEIGHTS.get(str(finding.get("severity")).lower(), 0),
            self._factor(finding),
            math.exp(-half_life(finding.get("half_life", 30)) * max(age, 0)),
            self._worth.get(finding["resource"], 1),
        )
        return rounded(reduce(operator.mul, parts, 1.0))


def transform(data):
    score = Scorer(datetime.now(timezone.utc), data.get("worth", {}))
    rows = [{**finding, "score": score(finding)} for finding in data["findings"]]
    rows.sort(key=operator.itemgetter("score"), reverse=True)
    scores = [row["score"] for row in rows] or [0.0]
    show = partial(round, ndigits=2)
    return {
        "findings": rows,
        "median": show(statistics.median(scores)),
        "worst": max(scores),
        "scored": score.tokens,
    }
''',
)

SOUND["duplicates"] = (
    "transformer",
    r'''
"""Merge findings that say the same, and keep what differs."""
import hashlib
import json
import unicodedata
from copy import deepcopy


def plain(value):
    if isinstance(value, str):
        return unicodedata.normalize("NFKC", value).casefold().strip()
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def fingerprint(finding, keys):
    chosen = {key: plain(finding.get(key)) for key in keys}
    text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def merge(into, other):
    merged = deepcopy(into)
    merged["count"] += 1
    merged["last_seen"] = max(merged["last_seen"], other["seen"])
    merged["first_seen"] = min(merged["first_seen"], other["seen"])
    merged["sources"] = sorted({*merged["sources"], other.get("source", "unknown")})
    return merged


def transform(data):
    keys = data.get("keys") or ["title", "resource"]
    groups = {}
    for finding in data["findings"]:
        token = fingerprint(finding, keys)
        fresh = {**finding, "count": 0, "sources": [],
                 "first_seen": finding["seen"], "last_seen": finding["seen"]}
        groups[token] = merge(groups.get(token, fresh), finding)
    assert len(groups) <= len(data["findings"])
    return {"findings": list(groups.values()), "removed": len(data["findings"]) - len(groups)}
''',
)
