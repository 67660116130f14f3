"""Parse CSV, JSON, JSON lines or syslog into records; what cannot be read is told with its line.

Without `format` the text itself says what it is. Syslog may be RFC 5424 or the older RFC 3164; the
time of the latter has no year and stays as it is written.
"""

from __future__ import annotations

import csv
import json
import re

FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
)  # fmt: skip
SEVERITIES = (
    "emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug",
)  # fmt: skip
RFC_5424 = re.compile(
    r"<(\d{1,3})>1 (\S{1,64}) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) (-|\[.*?[^\\]\](?= |$))"
    r"(?: (.*))?",
    re.DOTALL,
)
RFC_3164 = re.compile(
    r"(?:<(\d{1,3})>)?([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (\S{1,255}) "
    r"([^\s:\[]{1,48})(?:\[(\d{1,10})\])?: ?(.*)",
    re.DOTALL,
)
ELEMENT = re.compile(r'\[([^\s=\]"]{1,32})((?: [^\s=\]"]{1,32}="(?:\\.|[^"\\])*")*)\]')
PARAMETER = re.compile(r' ([^\s=\]"]{1,32})="((?:\\.|[^"\\])*)"')
ESCAPED = re.compile(r'\\(["\\\]])')

BOM = "\ufeff"


def main(params: dict) -> dict:
    """Return {"format", "records", "errors": [{line, reason}]}."""
    text = params["text"].removeprefix(BOM)
    kind = params.get("format", "auto")
    if kind == "auto":
        kind = guessed(text)
    records: list = []
    errors: list[dict] = []
    if kind == "csv":
        read_csv(text, params.get("delimiter") or likely_delimiter(text), records, errors)
    else:
        readers = {"json": read_json, "jsonl": read_lines, "syslog": read_syslog}
        readers[kind](text, records, errors)
    return {"format": kind, "records": records, "errors": errors}


def guessed(text: str) -> str:
    """Say what a text looks like."""
    start = text.lstrip()
    first = start.split("\n", 1)[0].strip()
    if start[:1] in {"{", "["}:
        several = "\n{" in start and first.endswith("}")
        return "jsonl" if several else "json"
    if first.startswith("<") or RFC_3164.fullmatch(first):
        return "syslog"
    return "csv"


def read_csv(text: str, delimiter: str, records: list, errors: list[dict]) -> None:
    """Read a table whose first row names the columns; a row of another width is an error."""
    rows = csv.reader((f"{line}\n" for line in text.split("\n")), delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [cell.strip() for cell in row]
            elif len(row) == len(header):
                records.append(dict(zip(header, row, strict=True)))
            else:
                reason = f"cells: {len(row)}, columns: {len(header)}"
                errors.append({"line": rows.line_num, "reason": reason})
    except csv.Error as exc:
        errors.append({"line": rows.line_num, "reason": str(exc)})


def likely_delimiter(text: str) -> str:
    """Return what stands most often in the first line."""
    first = text.lstrip().split("\n", 1)[0]
    return max((",", ";", "\t", "|"), key=first.count)


def read_json(text: str, records: list, errors: list[dict]) -> None:
    """Read one document: a list gives a record for each item."""
    try:
        document = json.loads(text)
    except ValueError as exc:
        errors.append({"line": line_of(exc), "reason": str(exc)})
        return
    records += document if isinstance(document, list) else [document]


def line_of(exc: ValueError) -> int:
    """Return the line of a JSON fault."""
    return exc.lineno if isinstance(exc, json.JSONDecodeError) else 1


def read_lines(text: str, records: list, errors: list[dict]) -> None:
    """Read a document from each line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except ValueError as exc:
            errors.append({"line": number, "reason": str(exc)})


def read_syslog(text: str, records: list, errors: list[dict]) -> None:
    """Read a message from each line."""
    for number, written in enumerate(text.split("\n"), 1):
        line = written.rstrip("\r")
        if not line.strip():
            continue
        record = syslog_5424(line) or syslog_3164(line)
        if record is None:
            errors.append({"line": number, "reason": "neither RFC 5424 nor RFC 3164"})
        else:
            records.append(record)


def syslog_5424(line: str) -> dict | None:
    """Take an RFC 5424 message apart; a dash there means that something is not known."""
    matched = RFC_5424.fullmatch(line)
    if matched is None or int(matched[1]) > 191:
        return None
    time, host, app, process, message_id = (
        None if value == "-" else value for value in matched.groups()[1:6]
    )
    return {
        **priority(matched[1]),
        "time": time,
        "host": host,
        "app": app,
        "process": process,
        "message_id": message_id,
        "data": structured(matched[7]),
        "message": (matched[8] or "").removeprefix(BOM),
    }


def syslog_3164(line: str) -> dict | None:
    """Take a BSD syslog message apart."""
    matched = RFC_3164.fullmatch(line)
    if matched is None or int(matched[1] or 0) > 191:
        return None
    return {
        **priority(matched[1]),
        "time": matched[2],
        "host": matched[3],
        "app": matched[4],
        "process": matched[5],
        "message_id": None,
        "data": {},
        "message": matched[6],
    }


def priority(text: str | None) -> dict:
    """Take a priority apart: facility times eight plus severity."""
    if text is None:
        return {"facility": None, "severity": None}
    facility, severity = divmod(int(text), 8)
    return {"facility": FACILITIES[facility], "severity": SEVERITIES[severity]}


def structured(text: str) -> dict:
    """Read structured data: {element: {parameter: value}}."""
    return {
        element[1]: {
            parameter[1]: ESCAPED.sub(r"\1", parameter[2])
            for parameter in PARAMETER.finditer(element[2])
        }
        for element in ELEMENT.finditer(text)
    }
