"""The evaluator of the local AWS: it allows what IAM allows, and nothing that it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from worker_service_aws.local_aws.policy import Ruling, rule

ALICE = "arn:aws:iam::111122223333:user/people/alice"


def allow(**more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "iam:AttachUserPolicy", "Resource": ALICE, **more}


def deny(**more: Any) -> dict[str, Any]:
    return {**allow(**more), "Effect": "Deny"}


def ruling(*statements: dict[str, Any], **context: str) -> Ruling:
    named = {key.replace("_", ":"): value for key, value in context.items()}
    return rule([{"Statement": list(statements)}], "iam:AttachUserPolicy", ALICE, named)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (allow(), Ruling.ALLOWED),
        (allow(Action="*"), Ruling.ALLOWED),
        (allow(Action="IAM:attachuserpolicy"), Ruling.ALLOWED),
        (allow(Action=["iam:Get*", "iam:Attach*"]), Ruling.ALLOWED),
        (allow(Action="iam:AttachUser"), Ruling.NOT_ALLOWED),
        (allow(Action="iam:AttachUserPolic?"), Ruling.ALLOWED),
        (allow(Resource="*"), Ruling.ALLOWED),
        (allow(Resource="arn:aws:iam::111122223333:user/*/alice"), Ruling.ALLOWED),
        (allow(Resource="arn:aws:iam::111122223333:user/alice"), Ruling.NOT_ALLOWED),
        (allow(Resource=ALICE.upper()), Ruling.NOT_ALLOWED),
        ({"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}, Ruling.ALLOWED),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, Ruling.NOT_ALLOWED),
        ({"Effect": "Allow", "Action": "*", "NotResource": ALICE}, Ruling.NOT_ALLOWED),
        ({"Effect": "Allow", "Action": "*"}, Ruling.NOT_ALLOWED),
        (deny(), Ruling.DENIED),
        (deny(Resource="arn:aws:iam::111122223333:user/bob"), Ruling.NOT_ALLOWED),
    ],
)
def test_actions_and_resources(statement: dict[str, Any], expected: Ruling) -> None:
    assert ruling(statement) is expected


def test_a_deny_wins_wherever_it_stands() -> None:
    assert ruling(allow(), deny()) is Ruling.DENIED
    assert ruling(deny(), allow()) is Ruling.DENIED


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"ArnEquals": {"iam:PolicyARN": "arn:p"}}, True),
        ({"StringEquals": {"iam:PolicyARN": ["arn:q", "arn:p"]}}, True),
        ({"StringEquals": {"iam:PolicyARN": "arn:*"}}, False),
        ({"StringLike": {"iam:PolicyARN": "arn:*"}}, True),
        ({"StringNotEquals": {"iam:PolicyARN": "arn:q"}}, True),
        ({"StringNotEquals": {"iam:PolicyARN": ["arn:q", "arn:p"]}}, False),
        ({"StringEquals": {"sts:ExternalId": "x"}}, False),
        ({"StringNotEquals": {"sts:ExternalId": "x"}}, True),
        ({"StringEqualsIfExists": {"sts:ExternalId": "x"}}, True),
        ({"StringEqualsIfExists": {"iam:PolicyARN": "arn:q"}}, False),
        ({"StringEquals": {"iam:PolicyARN": "arn:p", "sts:ExternalId": "x"}}, False),
    ],
)
def test_conditions(*, condition: dict[str, Any], holds: bool) -> None:
    expected = Ruling.ALLOWED if holds else Ruling.NOT_ALLOWED
    assert ruling(allow(Condition=condition), iam_PolicyARN="arn:p") is expected


def test_an_operator_that_is_not_known_never_opens_anything() -> None:
    strange = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}

    assert ruling(allow(Condition=strange)) is Ruling.NOT_ALLOWED
    assert ruling(allow(), deny(Condition=strange)) is Ruling.DENIED
