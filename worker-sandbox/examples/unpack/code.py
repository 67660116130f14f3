"""Unpack what attackers wrap: base64, gzip and zlib in any order, within firm bounds.

Never more than `max_bytes` come out of any layer, so a decompression bomb costs no more than that;
what was cut says so. UTF-16 (PowerShell's -EncodedCommand) is recognised.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib

MAX_BYTES = 262_144
MAX_LAYERS = 8

#: Shorter texts are words far more often than base64.
SHORTEST = 16

LINE_ENDS = re.compile(rb"[\t\r\n]+")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
ZLIB_HEADS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def transform(data: dict) -> dict:
    """Return {"layers", "encoding", "text", "base64", "bytes", "sha256", "truncated"}."""
    most = data.get("max_bytes", MAX_BYTES)
    content = data["data"].encode()
    layers: list[str] = []
    truncated = False
    for _ in range(data.get("max_layers", MAX_LAYERS)):
        name, inner, cut = peeled(content, most, first=not layers)
        if name is None:
            break
        layers.append(name)
        content = inner
        truncated = truncated or cut
    truncated = truncated or len(content) > most
    content = content[:most]
    encoding, text = decoded(content, truncated=truncated)
    return {
        "layers": layers,
        "encoding": encoding,
        "text": text,
        "base64": None if text is not None else base64.b64encode(content).decode(),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "truncated": truncated,
    }


def peeled(content: bytes, most: int, *, first: bool) -> tuple[str | None, bytes, bool]:
    """Take one layer off: its name, what was inside, and whether that was cut."""
    if content[:2] == b"\x1f\x8b":
        return inflated("gzip", content, most)
    if content[:2] in ZLIB_HEADS:
        return inflated("zlib", content, most)
    inner = from_base64(content)
    if inner is None or not (first or plausible(inner)):
        return None, content, False
    return "base64", inner, False  # smaller than what it came from: there is nothing to bound


def inflated(name: str, content: bytes, most: int) -> tuple[str | None, bytes, bool]:
    """Decompress up to `most` bytes; what is damaged gives what could be read before it."""
    wanted = zlib.MAX_WBITS | (16 if name == "gzip" else 0)
    parts: list[bytes] = []
    room = most + 1
    for _ in range(64):  # a gzip file may have several members
        stream = zlib.decompressobj(wanted)
        try:
            part = stream.decompress(content, room)
        except zlib.error:
            break
        parts.append(part)
        room -= len(part)
        content = stream.unused_data
        if room <= 0 or not content:
            break
    inner = b"".join(parts)
    return (name if inner else None), inner[:most], len(inner) > most


def from_base64(content: bytes) -> bytes | None:
    """Decode base64 of either alphabet, with or without padding; None when it is none."""
    text = LINE_ENDS.sub(b"", content).strip(b" ")
    if len(text) < SHORTEST or not BASE64.fullmatch(text):
        return None
    text = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    if len(text) % 4 == 1:
        return None
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None


def plausible(inner: bytes) -> bool:
    """Say whether this is worth having: compressed, or a text that somebody can read."""
    packed = inner[:2] == b"\x1f\x8b" or inner[:2] in ZLIB_HEADS
    return packed or decoded(inner, truncated=False)[1] is not None


def decoded(content: bytes, *, truncated: bool) -> tuple[str, str | None]:
    """Read bytes as text: UTF-8, or UTF-16 without a mark when every other byte is zero."""
    wide = content[:2] == b"\xff\xfe" or (len(content) >= 4 and mostly_wide(content))
    encoding = "utf-16-le" if wide else "utf-8"
    for torn in range(4 if truncated else 1):  # a cut may have gone through a character
        try:
            text = content[: len(content) - torn].decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
        if all(char.isprintable() or char in "\t\r\n" for char in text[:4096]):
            return encoding, text
    return "binary", None


def mostly_wide(content: bytes) -> bool:
    """Say whether this looks like UTF-16 of Latin letters."""
    sample = content[:256]
    return len(sample) % 2 == 0 and sample[1::2].count(0) > 0.9 * (len(sample) // 2)
