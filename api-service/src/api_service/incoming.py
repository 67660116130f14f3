"""What a caller sends, read strictly: bodies, keys, ids, query parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from flask import request
from gevent import Timeout
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from api_service.call import Call
from api_service.errors import BadRequest, KeysDiffer, UnsupportedMediaType
from csb_core import body
from csb_core.config import ApiSettings
from csb_core.contract import digest_of
from csb_core.errors import NotFound
from csb_core.explain import did_you_mean
from csb_core.ids import new_id
from csb_core.models import Draft, Json, PinnedUtil

_FIELD: Final = "client_request_id"
_UUID: Final = re.compile(r"[0-9A-Fa-f-]{32,36}")
_KEY: Final = re.compile(r"[!-~]{1,128}")

#: A string as the draft of the header spells it (RFC 8941, 3.3.3).
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\["\\])*"')
_ESCAPED: Final = re.compile(r'\\(["\\])')


def read_json(settings: ApiSettings, *, most_bytes: int | None = None) -> Any:
    """Return the value of the body.

    Raises UnsupportedMediaType, BadRequest, Malformed, TooDeep, Invalid; RequestTimeout for a body
    that stops half-way, as it would hold its place for ever; RequestEntityTooLarge.
    """
    most_bytes = most_bytes or settings.max_body_bytes
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send the body as application/json")
    if request.environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the body as it is, without a Content-Encoding")
    request.max_content_length = most_bytes + 1  # a chunked body is cut there, not refused
    try:
        with Timeout(settings.body_timeout_seconds, RequestTimeout):
            data = request.get_data(cache=False)
    except ParseException as exc:  # gunicorn reads a chunked body only as it is asked for
        raise BadRequest("the chunks of the body are not as HTTP asks") from exc
    if len(data) > most_bytes:
        raise RequestEntityTooLarge
    return body.parse(data)


def idempotency_key() -> str | None:
    """Return the key of the header Idempotency-Key: bare, or quoted as its draft has it."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if key.startswith('"'):
        key = _ESCAPED.sub(r"\1", key[1:-1]) if _QUOTED.fullmatch(key) else ""
    if not _KEY.fullmatch(key):
        raise BadRequest(
            "Idempotency-Key must be 1 to 128 visible ASCII characters, bare or in double quotes"
        )
    return key


def is_known(etag: str) -> bool:
    """Whether If-None-Match names this tag; compared weakly (RFC 9110, 13.1.2)."""
    return "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(
        etag.strip('"')
    )


def with_key(payload: Any, key: str | None) -> Any:
    """Return the payload with the header's key as its client_request_id: they are one namespace.

    Raises KeysDiffer when it carries another one.
    """
    if key is None or not isinstance(payload, dict):
        return payload
    if payload.get(_FIELD, key) != key:
        raise KeysDiffer("Idempotency-Key and client_request_id differ; send one, or both alike")
    return {**payload, _FIELD: key}


def draft_of(
    call: Call,
    payload: Json,
    *,
    replay_of: UUID | None = None,
    util: PinnedUtil | None = None,
    advisory: bool = False,
) -> Draft:
    """Return a checked payload as a draft with an id of its own."""
    return Draft(
        correlation_id=new_id(),
        tenant_id=call.caller.tenant_id,
        payload=payload,
        digest=digest_of(payload),
        client_request_id=payload.get(_FIELD),
        requested_by=call.caller.key_id,
        request_id=call.trace.request_id,
        traceparent=call.trace.traceparent,
        replay_of=replay_of,
        util=util,
        advisory=advisory,
    )


def id_of(text: str, what: str = "request") -> UUID:
    """Return the id in a path; raises NotFound, as nothing is called by what is no id."""
    found = uuid_of(text)
    if found is None:
        raise NotFound(f"your tenant has no {what} with this id")
    return found


def uuid_of(text: str) -> UUID | None:
    """Return the UUID that a text spells; None for what only Python reads as one: `1_0`, `{..}`."""
    if not _UUID.fullmatch(text):
        return None
    try:
        return UUID(text)
    except ValueError:
        return None


def query(known: frozenset[str]) -> Mapping[str, str]:
    """Return the query parameters; raises BadRequest for one unknown, or given twice."""
    found: dict[str, str] = {}
    if not request.environ.get("QUERY_STRING"):
        return found
    for name, value in request.args.items(multi=True):
        if name not in known:
            raise BadRequest(f"there is no query parameter {name[:64]!r} here: {_all(known)}")
        if name in found:
            raise BadRequest(f"the query parameter {name} stands twice; keep one")
        if "\0" in value:
            raise BadRequest(f"the query parameter {name} holds a NUL character")
        found[name] = value
    return found


def whole(asked: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    """Return a whole number from 1 to `most`, or the default; raises BadRequest."""
    text = asked.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 11 and 1 <= int(text) <= most):
        raise BadRequest(f"{name} must be a whole number from 1 to {most}")
    return int(text)


def choice(asked: Mapping[str, str], name: str, options: Sequence[str]) -> str | None:
    """Return a parameter that must be one of the options; raises BadRequest."""
    text = asked.get(name)
    if text is None or text in options:
        return text
    hint = did_you_mean(text, options)
    raise BadRequest(f"{name} must be one of {', '.join(options)}{f' ({hint})' if hint else ''}")


def _all(known: frozenset[str]) -> str:
    return f"there are {', '.join(sorted(known))}" if known else "there is none"
