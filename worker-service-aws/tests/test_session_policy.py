"""What a session may do, for every principal and policy there could be."""

from __future__ import annotations

import json
import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csb_core.models import Target
from worker_service_aws import session_policy
from worker_service_aws.actions.attachments import Attachment
from worker_service_aws.faults import FinalError
from worker_service_aws.local_aws.policy import Ruling, rule
from worker_service_aws.principals import KINDS, Principal

NAMES = st.text(string.ascii_letters + string.digits + "_+=,.@-", min_size=1, max_size=64)
PATHS = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=40), max_size=6).map(
    lambda parts: "".join(f"{part}/" for part in parts)
)
TARGET = Target(
    account_id="111122223333", role_arn="arn:aws:iam::111122223333:role/x", external_id="e"
)


@st.composite
def attachments(draw: st.DrawFn) -> Attachment:
    kind = draw(st.sampled_from(list(KINDS.values())))
    owner = draw(st.sampled_from(["aws", "111122223333"]))
    return Attachment(
        target=TARGET,
        principal=Principal(kind=kind, name=draw(NAMES)),
        policy_arn=f"arn:aws:iam::{owner}:policy/{draw(PATHS)}{draw(NAMES)}",
        wanted=draw(st.booleans()),
        dry_run=draw(st.booleans()),
    )


def allows(document: Any, action: str, resource: str, policy_arn: str) -> bool:
    ruling = rule([document], action, resource, {"iam:PolicyARN": policy_arn})
    return ruling is Ruling.ALLOWED


@given(attachments(), NAMES, PATHS)
def test_it_fits_and_allows_one_principal_and_one_policy(
    change: Attachment, other: str, path: str
) -> None:
    text = session_policy.document([*change.reads, *change.writes])
    document = json.loads(text)
    noun, name = change.principal.kind.noun, change.principal.name
    action = f"iam:{'Attach' if change.wanted else 'Detach'}{noun}Policy"
    stem = f"arn:aws:iam::111122223333:{change.principal.kind.type}/"

    assert len(text) <= session_policy.LONGEST
    assert re.fullmatch(r"[\t\n\r\x20-\xff]+", text)
    assert allows(document, action, f"{stem}{path}{name}", change.policy_arn)
    assert not allows(document, action, f"{stem}{path}{name}", f"{change.policy_arn}x")
    assert not allows(document, action, f"{stem}{path}{other}", change.policy_arn) or other == name
    assert not allows(document, action, f"{stem}{name}/{other}", change.policy_arn) or other == name
    assert not allows(document, "iam:CreateAccessKey", f"{stem}{name}", change.policy_arn)


def test_the_longest_names_fit() -> None:
    path = "p" * 510
    change = Attachment(
        target=TARGET,
        principal=Principal(kind=KINDS["group"], name="g" * 128),
        policy_arn=f"arn:aws:iam::111122223333:policy/{path}/{'n' * 128}",
        wanted=True,
        dry_run=True,
    )

    session_policy.document(change.reads)
    session_policy.document([*change.reads[:1], *change.writes])


def test_what_does_not_fit_is_refused_before_aws_does() -> None:
    with pytest.raises(FinalError, match="PackedPolicyTooLarge"):
        session_policy.document([session_policy.allow(["iam:Get"], ["x" * 2048])])
