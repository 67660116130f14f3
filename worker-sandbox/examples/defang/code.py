"""Make the indicators in a text unclickable, or clickable again.

Defanging twice is the same as once, and refanging what was defanged gives the text back.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

#: How people disguise indicators, and what they mean.
DISGUISES = (
    (re.compile(r"\bh(?:xx|XX|\*\*)p(?=s?\[?:)"), "http"),
    (re.compile(r"\bHXXP(?=S?\[?:)"), "HTTP"),
    (re.compile(r"\bfxp(?=s?\[?:)"), "ftp"),
    (re.compile(r"\bFXP(?=S?\[?:)"), "FTP"),
    (re.compile(r"\[://\]|\[:\]//"), "://"),
    (re.compile(r"[\[({]\s?(?:\.|dot)\s?[\])}]", re.IGNORECASE), "."),
    (re.compile(r"[\[({]\s?(?:@|at)\s?[\])}]", re.IGNORECASE), "@"),
    (re.compile(r"\[:\]"), ":"),
)

SCHEME = re.compile(r"\b(?:http(?=s?://)|HTTP(?=S?://)|ftp(?=s?://)|FTP(?=S?://))")
SCHEMES = {"http": "hxxp", "HTTP": "HXXP", "ftp": "fxp", "FTP": "FXP"}
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_]{2,63}(?!\w)")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F.:]{0,45}")
IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)")
#: Not inside a path: the names of files stay as they are.
DOMAIN = re.compile(
    r"(?<![\w.@\\-])(?<![^\s/:]/)(?:[^\W_][\w-]{0,62}\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,63})"
    r"(?![\w(])",
    re.IGNORECASE,
)


def transform(data: dict) -> dict:
    """Return {"text", "changes"}; `mode` is "defang" (the default) or "refang"."""
    text, changes = refang(data["text"])
    if data.get("mode", "defang") == "defang":
        text, changes = defang(text)
    return {"text": text, "changes": changes}


def refang(text: str) -> tuple[str, int]:
    """Write indicators as machines do; return the text and the number of disguises."""
    changes = 0
    for pattern, meaning in DISGUISES:
        text, number = pattern.subn(meaning, text)
        changes += number
    return text, changes


def defang(text: str) -> tuple[str, int]:
    """Write indicators so that nobody can click on them; return the text and their number."""
    changes = 0
    for pattern, disguise in (
        (EMAIL, lambda found: found.replace("@", "[@]").replace(".", "[.]")),
        (IPV6, disguised_address),
        (IPV4, disguised_address),
        (DOMAIN, lambda found: found.replace(".", "[.]")),
    ):
        text, number = replaced(pattern, disguise, text)
        changes += number
    return SCHEME.sub(lambda match: SCHEMES[match[0]], text), changes


def replaced(
    pattern: re.Pattern[str], disguise: Callable[[str], str], text: str
) -> tuple[str, int]:
    """Replace what the pattern finds; a match that its disguise leaves alone does not count."""
    changed: list[str] = []

    def one(match: re.Match[str]) -> str:
        hidden = disguise(match[0])
        if hidden != match[0]:
            changed.append(hidden)
        return hidden

    return pattern.sub(one, text), len(changed)


def disguised_address(text: str) -> str:
    """Break an IP address up; what only looks like one stays as it is."""
    for cut in range(3):
        bare, tail = text[: len(text) - cut], text[len(text) - cut :]
        if tail.strip(".:"):
            break
        try:
            version = ipaddress.ip_address(bare).version
        except ValueError:
            continue
        mark = "." if version == 4 else ":"
        return bare.replace(mark, f"[{mark}]") + tail
    return text
