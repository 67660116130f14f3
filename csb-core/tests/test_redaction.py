"""What must never be readable, and what must stay so."""

from __future__ import annotations

import secrets
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csb_core.redaction import MASK, redact, redact_field, redact_value

TOKEN = "csb_ab12cd34ef56_" + "Zx9" * 14 + "Q"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQDo9Xw1Lk" * 4

SECRETS_IN_TEXT = {
    "our token": (f"key {TOKEN} was used", TOKEN[17:]),
    "our token cut short": (f"key {TOKEN[:30]}", TOKEN[17:30]),
    "header as text": (f"Authorization: Bearer {TOKEN}", TOKEN[17:]),
    "foreign bearer": ("Authorization: Bearer abc.def.ghi-1", "abc.def.ghi-1"),
    "basic": ("authorization=Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    "header in a dict's repr": ("{'X-Auth-Token': 'hunter2hunter2'}", "hunter2hunter2"),
    "header in bytes' repr": ("[(b'Authorization', b'Basic dXNlcjpwYXNz')]", "dXNlcjpwYXNz"),
    "JSON in JSON": (r"{\"SecretAccessKey\": \"abcd1234\"}", "abcd1234"),
    "bare AWS secret": (f"signing with {AWS_SECRET} failed", AWS_SECRET),
    "AWS secret after an escape": ("\n" + AWS_SECRET, AWS_SECRET),
    "AWS secret in a path": (f"/run/{AWS_SECRET}", AWS_SECRET[-20:]),
    "session token": (f"token was {SESSION_TOKEN}", SESSION_TOKEN[:40]),
    "environment": ("AWS_SECRET_ACCESS_KEY=abcd1234 AWS_REGION=x", "abcd1234"),
    "URL": ("postgresql://csb_api_user:s3cr3t@db:5432/csb", "s3cr3t"),
    "URL without a user": ("redis://:s3cr3t@cache:6379/0", "s3cr3t"),
    "URL, password with @": ("redis://:s3@cr3t@cache:6379/0", "cr3t"),
    "conninfo": ("host=db password=s3cr3t user=x", "s3cr3t"),
    "private key": (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
        "MII",
    ),
    "query string": ("/x?api_key=s3cr3t&y=1", "s3cr3t"),
}


@pytest.mark.parametrize(("text", "secret"), SECRETS_IN_TEXT.values(), ids=SECRETS_IN_TEXT)
def test_a_secret_in_a_text_is_masked(text: str, secret: str) -> None:
    shown = redact(text)
    assert secret not in shown
    assert MASK in shown


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:iam::111122223333:role/OrganizationAccountAccessRoleForTeam42",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        'File "/usr/lib/python3.11/site-packages/csb_core/worker/loop.py", line 42, in run',
        "https://iam.amazonaws.com/?Action=AttachUserPolicy",
        "AKIAIOSFODNN7EXAMPLE",
        "csb-01890a5d-ac96-774b-bcce-b302099a8057",
        "the token was refused: it has expired",
    ],
)
def test_what_operators_search_for_stays_readable(text: str) -> None:
    assert redact(text) == text


def test_random_keys_are_recognised_by_their_randomness() -> None:
    alphabet = string.ascii_letters + string.digits + "+/"
    keys = ["".join(secrets.choice(alphabet) for _ in range(40)) for _ in range(2000)]
    seen = [key for key in keys if key in redact(f"using {key} now")]
    assert len(seen) <= 5  # by name they are masked always, by looks almost always


def test_masking_twice_changes_nothing() -> None:
    for text, _ in SECRETS_IN_TEXT.values():
        assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "SecretAccessKey",
        "aws_secret_access_key",
        "SessionToken",
        "X-Auth-Token",
        "token",
        "authorization",
        "Cookie",
        "api_key",
        "client_secret",
        "private_key",
    ],
)
def test_a_field_with_a_telling_name_is_masked_whole(name: str) -> None:
    assert redact_field(name, "short") == MASK
    assert redact_field(name, ["a", {"b": "c"}]) == MASK


def test_numbers_pass_whatever_their_name() -> None:
    assert redact_field("lease_token", 7) == 7
    assert redact_field("key_id", "ab12cd34ef56") == "ab12cd34ef56"


def test_secrets_are_found_however_deep_they_lie() -> None:
    value = {"a": [{"headers": {"X-Auth-Token": "hunter2"}, "raw": TOKEN.encode()}, (TOKEN,)]}
    shown = str(redact_value(value))
    assert "hunter2" not in shown
    assert TOKEN[17:] not in shown


@pytest.mark.parametrize(
    "part",
    ["a-", "a_secret ", "password", "password=", "bearer ", "://", "csb_", "-----BEGIN ", "\\"],
)
def test_a_hostile_text_is_redacted_quickly(part: str) -> None:
    began = time.process_time()
    redact(part * 50_000 + ":")
    assert time.process_time() - began < 1


@given(st.text(), st.text())
def test_any_text_can_be_redacted_and_no_token_survives(before: str, after: str) -> None:
    assert TOKEN not in redact(before + TOKEN + after)
