"""The table of codes, line by line, as the wire sends them."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from botocore.stub import Stubber

from csb_core.errors import ConfigurationError
from worker_service_aws.calls import call
from worker_service_aws.codes import FINAL, PASSING, ErrorClass, repeatable
from worker_service_aws.faults import (
    AnswerLost,
    AwsError,
    CredentialsExpired,
    FinalError,
    OutcomeUnknown,
    OutOfTime,
    PassingError,
    broken,
    refused,
)

TRANSIENT = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "SlowDown",
    "PriorRequestNotComplete",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceFailure",
    "InternalFailure",
    "ServiceUnavailable",
    "InternalServerException",
    "ConcurrentModification",
    "EntityTemporarilyUnmodifiable",
    "IDPCommunicationError",
]
PERMANENT = [
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "NoSuchEntity",
    "MalformedPolicyDocument",
    "InvalidInput",
    "ValidationError",
    "ValidationException",
    "PolicyNotAttachable",
    "UnmodifiableEntity",
    "LimitExceeded",
    "EntityAlreadyExists",
    "DeleteConflict",
    "PasswordPolicyViolation",
    "PackedPolicyTooLarge",
    "RegionDisabledException",
    "ServiceQuotaExceededException",
    "ResourceNotFoundException",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "OptInRequired",
    "NotSupportedService",
    "PolicyEvaluation",
    "LimitExceededException",
]
EXPIRED = ["ExpiredToken", "ExpiredTokenException", "RequestExpired"]


def answer(code: str, status: int = 400, **headers: Any) -> dict[str, Any]:
    return {
        "Error": {"Code": code, "Message": "told by AWS"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers, "RequestId": "r-1"},
    }


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    session: Any = botocore.session.Session()
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    return {
        service: session.create_client(service, region_name="eu-west-1", **keys)
        for service in ("iam", "sts", "sso-admin", "identitystore")
    }


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        *((code, PassingError) for code in TRANSIENT),
        *((code, FinalError) for code in PERMANENT),
        *((code, CredentialsExpired) for code in EXPIRED),
        ("NeverHeardOf", FinalError),
    ],
)
def test_every_code_of_iam_has_its_reaction(
    code: str, leaf: type[AwsError], clients: dict[str, Any]
) -> None:
    """Through botocore, as an answer of the service."""
    refs: list[Any] = []
    with Stubber(clients["iam"]) as stub:
        stub.add_client_error("get_user", code, "told by AWS", 400)
        with pytest.raises(leaf) as caught:
            call(clients["iam"], "GetUser", {"UserName": "alice"}, refs)

    assert type(caught.value) is leaf
    assert caught.value.fault.code == code
    assert isinstance(caught.value.__cause__, ClientError)


def test_the_table_holds_nothing_else() -> None:
    assert set(PASSING) == set(TRANSIENT)
    assert set(FINAL) == set(PERMANENT)


def test_one_code_may_mean_two_things() -> None:
    def leaf(service: str, code: str) -> type[BaseException]:
        return type(refused(answer(code), service=service, operation="CreateX"))

    assert leaf("sso-admin", "ConflictException") is PassingError
    assert leaf("identitystore", "ConflictException") is FinalError
    assert leaf("iam", "LimitExceeded") is FinalError
    assert leaf("sts", "InvalidClientTokenId") is ConfigurationError
    assert leaf("sts", "SignatureDoesNotMatch") is ConfigurationError
    assert leaf("sts", "ExpiredToken") is ConfigurationError
    assert leaf("sts", "AccessDenied") is FinalError
    assert leaf("iam", "InvalidClientTokenId") is FinalError


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_unknown_code_with_a_passing_status_passes(status: int) -> None:
    error = refused(answer(str(status), status), service="iam", operation="GetUser")

    assert type(error) is PassingError


def test_a_simulation_that_fails_with_500_is_final() -> None:
    error = refused(
        answer("PolicyEvaluation", 500), service="iam", operation="SimulatePrincipalPolicy"
    )

    assert type(error) is FinalError


def test_an_unknown_code_is_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        error = refused(answer("Brandnew"), service="iam", operation="GetUser")

    assert isinstance(error, AwsError)
    assert error.fault.error_class is ErrorClass.UNCLASSIFIED
    (record,) = caplog.records
    assert record.message == "aws.error_unclassified"
    assert vars(record)["code"] == "Brandnew"


def test_aws_may_ask_for_patience() -> None:
    def after(code: str, **headers: Any) -> timedelta | None:
        error = refused(answer(code, **headers), service="iam", operation="GetUser")
        assert isinstance(error, AwsError)
        return error.fault.after

    assert after("Throttling") is None
    assert after("Throttling", **{"retry-after": "7"}) == timedelta(seconds=7)
    assert after("Throttling", **{"retry-after": "soon"}) is None
    assert after("EntityTemporarilyUnmodifiable") == timedelta(minutes=2)
    assert after("ConcurrentModification") == timedelta(seconds=20)


def test_a_message_that_quotes_the_request_is_not_repeated() -> None:
    error = refused(answer("SignatureDoesNotMatch"), service="iam", operation="GetUser")

    assert isinstance(error, AwsError)
    assert "told by AWS" not in error.fault.message


URL = "http://user:secret@proxy"
UNKNOWN_ON_A_WRITE = [
    boto.ReadTimeoutError(endpoint_url=URL),
    boto.ConnectionClosedError(endpoint_url=URL),
    boto.HTTPClientError(error="x"),
    boto.ConnectionError(error=OSError()),
    boto.SSLError(endpoint_url=URL, error=OSError()),
    boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ResponseParserError("x"),
]
NEVER_SENT = [
    boto.EndpointConnectionError(endpoint_url=URL),
    boto.ConnectTimeoutError(endpoint_url=URL),
    boto.ProxyConnectionError(proxy_url=URL),
    OutOfTime(),
]


def leaf_of(error: Exception, operation: str) -> type[BaseException]:
    found = broken(error, service="iam", operation=operation)
    assert "secret" not in str(found)
    return type(found)


@pytest.mark.parametrize("error", UNKNOWN_ON_A_WRITE, ids=lambda error: type(error).__name__)
def test_what_breaks_off_passes_on_a_read_and_is_unknown_on_a_write(error: Exception) -> None:
    assert leaf_of(error, "GetUser") is PassingError
    assert leaf_of(error, "AttachUserPolicy") is OutcomeUnknown


@pytest.mark.parametrize("error", NEVER_SENT, ids=lambda error: type(error).__name__)
def test_what_was_never_sent_passes(error: Exception) -> None:
    assert leaf_of(error, "GetUser") is PassingError
    assert leaf_of(error, "AttachUserPolicy") is PassingError


def test_a_lost_answer_is_unknown() -> None:
    assert leaf_of(AnswerLost(reason="x"), "AttachUserPolicy") is OutcomeUnknown


@pytest.mark.parametrize(
    "error",
    [
        boto.NoCredentialsError(),
        boto.PartialCredentialsError(provider="env", cred_var="x"),
        boto.CredentialRetrievalError(provider="x", error_msg="secret"),
        boto.ProfileNotFound(profile="x"),
        boto.NoRegionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_our_own_configuration_is_nobodys_failure(error: Exception) -> None:
    assert leaf_of(error, "AssumeRole") is ConfigurationError


def test_parameters_that_botocore_refuses_are_final() -> None:
    assert leaf_of(boto.ParamValidationError(report="secret"), "GetUser") is FinalError
    assert leaf_of(boto.DataNotFoundError(data_path="secret"), "GetUser") is FinalError


def test_only_what_changes_nothing_may_be_repeated(clients: dict[str, Any]) -> None:
    """Every operation of IAM that counts as repeatable is one that reads or reports."""
    operations = clients["iam"].meta.service_model.operation_names
    repeatables = {one for one in operations if repeatable(one)}

    assert not {
        one for one in repeatables if not one.startswith(("Get", "List", "Simulate", "Generate"))
    }
    assert not repeatable("CreateAccessKey")
    assert not repeatable("AttachUserPolicy")
    assert repeatable("AssumeRole")
