"""Keeps secrets out of what is written: our tokens, headers, AWS keys, URLs' passwords.

Two nets, both always on: values under a telling name are masked whole, and every text is searched
for what looks like a secret, wherever it came from (a message, a field, a traceback).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

MASK: Final = "***"

#: Names whose text is never shown. Numbers pass: a lease token is a counter, not a secret.
_SECRET_NAME: Final = re.compile(
    r"passw(or)?d|secret|authori[sz]ation|(^|[_-])token$|(session|auth|access|refresh|id)[_-]?token"
    r"|api[_-]?key$|private[_-]?key|credential|cookie|signature",
    re.IGNORECASE,
)

#: csb_<key id>_<secret>; the id may be read, the secret may not, not even cut short.
_OUR_TOKEN: Final = re.compile(r"(csb_[a-z0-9]{12}_)[A-Za-z0-9]+")

#: `Authorization: ...`, `X-Auth-Token=...`, `"SecretAccessKey": "..."`, `password=...`. A name is
#: looked at from its beginning only, or a long one would be searched from each of its letters.
_NAMED: Final = re.compile(
    r"""(?ix)
    ( (?<![a-z0-9_-]) (?: [a-z0-9_-]* (?: passw(?:or)?d | secret | secret[_-]?(?:access[_-]?)?key
                         | (?:session|auth|access|refresh|security)[_-]?token
                         | authori[sz]ation | api[_-]?key | private[_-]?key ) )
      (?: \\* ["'] \s* [:=,] | \s* [:=] ) \s* (?: b? \\* ["'] )?
      (?: (?: bearer | basic | digest | token ) \s+ )?
    )
    ( [^\s"'\\,;&<>(){}\[\]]+ )
    """
)

_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)([A-Za-z0-9._~+/=-]{8,})")

_URL_PASSWORD: Final = re.compile(r"(://[^\s/:@\"']*:)([^\s/\"']+)(?=@)")

_PEM: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*KEY-----|\Z)", re.DOTALL
)

#: A run long enough to be an AWS secret key (40 characters) or a session token (hundreds).
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9/+]{40,}=*")

_ALPHABETS: Final = ("0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CLASS_OF: Final = {char: n for n, chars in enumerate(_ALPHABETS) for char in chars}

#: Random base64 changes between cases and digits at 64 % of its places, camel case at 30 %.
_RANDOM_FROM: Final = 0.38

#: Shorter texts cannot hold anything of the kinds below.
_SHORTEST: Final = 8


def redact(text: str) -> str:
    """Return `text` with everything masked that looks like a secret."""
    if len(text) < _SHORTEST:
        return text
    if "csb_" in text:
        text = _OUR_TOKEN.sub(rf"\1{MASK}", text)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1{MASK}", text)
    if "PRIVATE KEY" in text:
        text = _PEM.sub(MASK, text)
    if ":" in text or "=" in text or "'," in text or '",' in text:
        text = _NAMED.sub(_mask_value, text)
    if " " in text:
        text = _BEARER.sub(rf"\1{MASK}", text)
    if len(text) >= 40:
        text = _LONG_RUN.sub(_mask_random, text)
    return text


def redact_value(value: Any) -> Any:
    """Return `value` with every text in it redacted, however deep it lies."""
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {str(name): redact_field(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item) for item in value]
    return redact(str(value))


def redact_field(name: str, value: Any) -> Any:
    """Return `value` as it may be shown under `name`."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if _is_secret(name):
        return MASK
    return redact(value) if type(value) is str else redact_value(value)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _mask_value(match: re.Match[str]) -> str:
    return match[0] if match[2] == MASK else match[1] + MASK


def _mask_random(match: re.Match[str]) -> str:
    run = match[0]
    classes = [_CLASS_OF.get(char, 3) for char in run]
    if not {1, 2} <= set(classes):
        return run
    changes = sum(a != b for a, b in pairwise(classes))
    return MASK if changes / (len(run) - 1) >= _RANDOM_FROM else run
