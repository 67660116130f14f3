"""Merge findings that say the same: equal in the given fields, and near enough in time.

The first of each group is kept as it came, with how many there were and when they were seen. Text
is compared without regard to case, surrounding space and Unicode's several spellings.
"""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime

#: What a field that is not there compares as; null is something else.
MISSING = "\0missing"

#: A greater number of seconds lies beyond the year 5000: it counts milliseconds.
MILLISECONDS_FROM = 100_000_000_000


def transform(data: dict) -> dict:
    """Return {"findings": [{finding, count, first_seen, last_seen}], "duplicates", "unkeyed"}."""
    fields = data["keys"]
    window = data.get("window_seconds")
    time_field = data.get("time_field", "time")
    groups: list[dict] = []
    latest: dict[str, dict] = {}
    unkeyed = 0
    for finding in in_order(data["findings"], time_field):
        values = [value_at(finding, field) for field in fields]
        seen = seconds(value_at(finding, time_field))
        if all(value == MISSING for value in values):
            # Nothing to compare by: merging these would lose findings.
            unkeyed += 1
            groups.append(group_of(finding, seen))
            continue
        key = json.dumps([plain(value) for value in values], sort_keys=True)
        known = latest.get(key)
        if known is not None and within(known, seen, window):
            known["count"] += 1
            known["first"] = least(known["first"], seen)
            known["last"] = greatest(known["last"], seen)
        else:
            latest[key] = group_of(finding, seen)
            groups.append(latest[key])
    return {
        "findings": [shown(group) for group in groups],
        "duplicates": len(data["findings"]) - len(groups),
        "unkeyed": unkeyed,
    }


def in_order(findings: list, time_field: str) -> list:
    """Return the findings by time; those without one come first, in their order."""
    return sorted(findings, key=lambda one: seconds(value_at(one, time_field)) or 0.0)


def group_of(finding: object, seen: float | None) -> dict:
    """Begin a group."""
    return {"finding": finding, "count": 1, "first": seen, "last": seen}


def within(group: dict, seen: float | None, window: float | None) -> bool:
    """Say whether a finding is near enough to the last of its group."""
    if window is None or seen is None or group["last"] is None:
        return True
    return seen - group["last"] <= window


def value_at(finding: object, path: str) -> object:
    """Walk along a path like resource.tags.0.value; MISSING where it leads nowhere."""
    for name in path.split("."):
        if isinstance(finding, dict) and name in finding:
            finding = finding[name]
        elif isinstance(finding, list) and name.isdigit() and int(name) < len(finding):
            finding = finding[int(name)]
        else:
            return MISSING
    return finding


def plain(value: object) -> object:
    """Return a value as it is compared; a list in another order is the same list."""
    if isinstance(value, str):
        return unicodedata.normalize("NFKC", value).strip().casefold()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return sorted(
            (plain(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True)
        )
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 are one number
    return value


def seconds(value: object) -> float | None:
    """Return a time as seconds since 1970: a number, or ISO 8601 (UTC when it names no zone)."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        if isinstance(value, (int, float)):
            number = value / 1000 if abs(value) > MILLISECONDS_FROM else value
            return datetime.fromtimestamp(number, UTC).timestamp()
        moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None  # no time that a calendar knows
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def least(one: float | None, other: float | None) -> float | None:
    """Return the earlier of two times, whichever is known."""
    known = [time for time in (one, other) if time is not None]
    return min(known, default=None)


def greatest(one: float | None, other: float | None) -> float | None:
    """Return the later of two times, whichever is known."""
    known = [time for time in (one, other) if time is not None]
    return max(known, default=None)


def shown(group: dict) -> dict:
    """Return a group with its times written out."""
    return {
        "finding": group["finding"],
        "count": group["count"],
        "first_seen": written(group["first"]),
        "last_seen": written(group["last"]),
    }


def written(moment: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
