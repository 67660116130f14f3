"""Find the indicators of compromise in a text, defanged or not, each once and with its count."""

from __future__ import annotations

import ipaddress
import re

#: How people write indicators so that nobody clicks on them, and what they mean.
DISGUISES = (
    (re.compile(r"\bh[xX*]{2}p(s?)(?=\[?:)"), r"http\1"),
    (re.compile(r"\bfxp(?=\[?:)"), "ftp"),
    (re.compile(r"\[://\]|\[:\]//"), "://"),
    (re.compile(r"[\[({]\s?(?:\.|dot)\s?[\])}]", re.IGNORECASE), "."),
    (re.compile(r"[\[({]\s?(?:@|at)\s?[\])}]", re.IGNORECASE), "@"),
    (re.compile(r"\[:\]"), ":"),
)

#: In this order: what one of them has found is not looked at by the next.
PATTERNS = (
    ("url", re.compile(r"(?<!\w)(?:https?|ftps?|wss?)://[^\s<>\"'`{}|\\^]{1,2048}", re.IGNORECASE)),
    ("arn", re.compile(r"(?<![\w:])arn:aws[a-z-]{0,12}:[a-z0-9-]{1,40}:[^\s,;\"'<>]{1,512}")),
    (
        "email",
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_]{2,63}(?!\w)"),
    ),
    ("cve", re.compile(r"(?<![\w-])CVE-\d{4}-\d{4,7}(?!\w)", re.IGNORECASE)),
    ("sha256", re.compile(r"(?<!\w)[0-9a-fA-F]{64}(?!\w)")),
    ("sha1", re.compile(r"(?<!\w)[0-9a-fA-F]{40}(?!\w)")),
    ("md5", re.compile(r"(?<!\w)[0-9a-fA-F]{32}(?!\w)")),
    ("ipv6", re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F.:]{0,45}")),
    ("ipv4", re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)")),
    (
        "domain",
        re.compile(
            r"(?<![\w.@/\\-])(?:[^\W_][\w-]{0,62}\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,63})"
            r"(?![\w(])",
            re.IGNORECASE,
        ),
    ),
)

#: Endings of file names that are no top-level domains, or far more often files than domains.
FILES = {
    "7z", "asp", "aspx", "bat", "bin", "bmp", "cfg", "cmd", "conf", "csv", "dll", "doc", "docm",
    "docx", "exe", "gif", "gz", "hta", "htm", "html", "img", "ini", "iso", "jar", "jpeg", "jpg",
    "js", "json", "jsp", "lnk", "log", "pdf", "php", "png", "ppt", "pptx", "ps1", "py", "rar",
    "rtf", "sh", "sys", "tar", "tmp", "txt", "vbs", "xls", "xlsm", "xlsx", "xml", "yaml", "yml",
    "zip",
}  # fmt: skip

HOST = re.compile(r"://(?:[^/@\s]{0,256}@)?(\[[0-9a-fA-F:.]{2,45}\]|[^/:?#\s]{1,253})")


def transform(data: dict) -> dict:
    """Return {"iocs": [{type, value, count}], "counts": {type: number}}."""
    wanted = set(data.get("types") or [kind for kind, _ in PATTERNS])
    found = scan(refang(data["text"]))
    iocs = [
        {
            "type": kind,
            "value": defang(kind, value) if data.get("defang", True) else value,
            "count": count,
        }
        for (kind, value), count in found.items()
        if kind in wanted
    ]
    counts: dict[str, int] = {}
    for ioc in iocs:
        counts[ioc["type"]] = counts.get(ioc["type"], 0) + 1
    return {"iocs": iocs, "counts": counts}


def refang(text: str) -> str:
    """Write indicators as machines do."""
    for pattern, meaning in DISGUISES:
        text = pattern.sub(meaning, text)
    return text


def scan(text: str) -> dict[tuple[str, str], int]:
    """Count every indicator by type and value, in the order of the types."""
    found: dict[tuple[str, str], int] = {}
    for kind, pattern in PATTERNS:
        kept: list[tuple[int, int]] = []
        for match in pattern.finditer(text):
            value = normal(kind, match[0])
            if value is None:
                continue
            kept.append(match.span())
            for one in ((kind, value), *host_of(kind, value)):
                found[one] = found.get(one, 0) + 1
        text = blanked(text, kept)
    return found


def blanked(text: str, spans: list[tuple[int, int]]) -> str:
    """Put spaces where something was found."""
    parts: list[str] = []
    place = 0
    for begin, end in spans:
        parts += (text[place:begin], " " * (end - begin))
        place = end
    return "".join((*parts, text[place:]))


def normal(kind: str, value: str) -> str | None:
    """Return the one spelling of an indicator, None when it only looked like one."""
    if kind in {"url", "arn"}:
        return trimmed(value)
    if kind in {"ipv4", "ipv6"}:
        return address(kind, value.rstrip("."))
    if kind == "domain" and value.rpartition(".")[2].lower() in FILES:
        return None
    return value.upper() if kind == "cve" else value.lower()


def trimmed(value: str) -> str:
    """Leave out what belongs to the sentence around: its full stop, its closing bracket."""
    for _ in range(4):
        last = value[-1:]
        unbalanced = last in {")", "]"} and value.count(last) > value.count("(["[last == "]"])
        if last in set(".,;:!?*") or unbalanced:
            value = value[:-1]
    return value


def address(kind: str, value: str) -> str | None:
    """Return an IP address as it is written shortest, None when it is none."""
    for text in (value, value.removesuffix(":")):
        try:
            parsed = ipaddress.ip_address(text)
        except ValueError:
            continue
        right = parsed.version == (4 if kind == "ipv4" else 6)
        return parsed.compressed if right and not parsed.is_unspecified else None
    return None


def host_of(kind: str, value: str) -> list[tuple[str, str]]:
    """Return the indicator inside a URL or an address: the host can be blocked by itself."""
    host = ""
    if kind == "email":
        host = value.rpartition("@")[2]
    elif kind == "url" and (matched := HOST.search(value)):
        host = matched[1].strip("[]").lower()
    for family in ("ipv4", "ipv6"):
        if known := address(family, host):
            return [(family, known)]
    return [("domain", host)] if "." in host.strip(".") else []


def defang(kind: str, value: str) -> str:
    """Write an indicator so that nobody can click on it."""
    if kind == "ipv6":
        return value.replace(":", "[:]")
    if kind in {"ipv4", "domain"}:
        return value.replace(".", "[.]")
    if kind == "email":
        return value.replace("@", "[@]").replace(".", "[.]")
    if kind == "url":
        scheme, separator, rest = value.partition("://")
        place = re.split(r"[/?#]", rest, maxsplit=1)[0]
        scheme = scheme.lower().replace("http", "hxxp").replace("ftp", "fxp")
        return scheme + separator + place.replace(".", "[.]") + rest[len(place) :]
    return value
